//! A real browser that is held to the dashboard's rules: it reaches nothing but the server, and nothing goes wrong in silence.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { access, constants, mkdir, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const TENANT = "northwind-it";
/** Of the demo's world. */
export const NORTHWIND_KEY = "neo_sk_demo_northwind00000000";
export const FABRIKAM_KEY = "neo_sk_demo_fabrikam000000000";
export const RELAY_KEY = "neo_sk_demo_relay0000platform";
export const BOT = "b07fab1e-c0de-4bee-8ace-facade0fb075";
export const CONTOSO = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";
export const TAILSPIN = "0ddba110-face-4fee-9add-1eaf1ed0dd01";
/** How long a page may take for one thing; only a failing test waits so long. */
const PATIENCE_MILLISECONDS = 10_000;
const WIDTHS = [1280, 360];
const COLOR_SCHEMES = ["light", "dark"];
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** The browser of this machine. */
async function executable() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    for (const folder of process.env.PATH.split(delimiter)) {
      const path = join(folder, name);
      const found = await access(path, constants.X_OK).then(() => true, () => false);
      if (found) return path;
    }
  }
  throw new Error("there is no chromium here");
}

/** Opens the browser for a demo; screenshots go to a folder, if one is named. */
export async function openBrowser(binary, demo, screenshots) {
  const browser = await chromium.launch({
    executablePath: await executable(),
    // The sandbox takes no root.
    chromiumSandbox: process.getuid() !== 0,
    timeout: 3 * PATIENCE_MILLISECONDS,
  });
  const axe = await readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");
  if (screenshots) await mkdir(screenshots, { recursive: true });
  return new Browser({ browser, binary, demo, axe, screenshots });
}

class Browser {
  constructor(parts) {
    Object.assign(this, parts);
  }

  /** A test of a scenario: it gets a visitor of its own, and whoever came has to leave without a fault. */
  test(scenario) {
    return async () => {
      this.visitors = [];
      try {
        const visitor = await this.visitor();
        await scenario(visitor);
        await visitor.leaves();
      } catch (error) {
        // What went wrong in the page is most often why.
        error.stack += this.visitors.flatMap(({ faults }) => faults).map((fault) => `\n    in the page: ${fault}`).join("");
        throw error;
      } finally {
        for (const { context } of this.visitors) await context.close();
      }
    };
  }

  /** Somebody who comes to a demo, the usual one if no other is named; `others` are servers that the page may reach besides. */
  async visitor({ demo = this.demo, others = [] } = {}) {
    const visitor = await Visitor.come(this, demo, others);
    this.visitors.push(visitor);
    return visitor;
  }

  close() {
    return this.browser.close();
  }
}

/** Somebody with a browser profile of their own. */
class Visitor {
  /** What went wrong: tries to reach others, errors, and breaches of the page's policy, which the browser reports as errors. */
  faults = [];
  /** Every address that was asked for, without fragments, which are sent to nobody. */
  addresses = [];
  #expected = [];

  static async come(home, demo, others) {
    const visitor = new Visitor();
    const context = await home.browser.newContext({
      baseURL: `${demo.url}/dashboard`,
      reducedMotion: "reduce",
      serviceWorkers: "block",
      viewport: { width: WIDTHS[0], height: 800 },
    });
    Object.assign(visitor, { home, demo, others, context });
    context.setDefaultTimeout(PATIENCE_MILLISECONDS);
    await visitor.#watch();
    visitor.page = await context.newPage();
    return visitor;
  }

  async #watch() {
    const { context, faults, addresses } = this;
    const origins = [this.demo.url, ...this.others].map((url) => new URL(url).origin);
    await context.route(
      () => true,
      (route) => {
        const url = new URL(route.request().url());
        if (origins.includes(url.origin)) return route.continue();
        faults.push(`a request for ${url}`);
        return route.abort();
      },
    );
    context.on("request", (request) => addresses.push(request.url().split("#")[0]));
    context.on("weberror", (error) => faults.push(String(error.error())));
    context.on("console", (message) => {
      if (message.type() === "error") faults.push(`${message.text()} (${message.location().url})`);
    });
  }

  /** Says that the browser will complain of this, as it does of every refusal; it must. */
  expects(complaint) {
    this.#expected.push(complaint);
  }

  /** Leaves, having met no fault but what was expected. */
  async leaves() {
    const surprise = this.faults.find((fault) => !this.#expected.some((complaint) => complaint.test(fault)));
    assert.equal(surprise, undefined);
    for (const complaint of this.#expected) {
      assert.ok(this.faults.some((fault) => complaint.test(fault)), `nothing complained of ${complaint}`);
    }
  }

  /** A new link that signs somebody of this role in. */
  async link(role = "ADMIN") {
    const { demo, home: { binary } } = this;
    const { host } = new URL(demo.url);
    const flags = ["--data", demo.data, "--tenant", TENANT, "--role", role, "--listen", host];
    const { stdout } = await promisify(execFile)(binary, ["login-link", ...flags], { timeout: PATIENCE_MILLISECONDS });
    return stdout.trim();
  }

  /** Signs in by a link of its own. */
  async signIn(page = this.page, role = "ADMIN") {
    await page.goto(await this.link(role));
    await this.isSignedIn(page);
  }

  async isSignedIn(page = this.page) {
    await page.getByRole("navigation", { name: "Views" }).waitFor();
    await page.getByRole("heading", { level: 1 }).waitFor();
  }

  /** A call of the API's: its status, and what the envelope holds; by default as Northwind's own service account. */
  async call(method, path, { key = NORTHWIND_KEY, body } = {}) {
    const reply = await fetch(`${this.demo.url}/public-api${path}`, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    return { status: reply.status, ...(reply.status === 204 ? {} : await reply.json()) };
  }

  /** Takes a view's pictures, if they are asked for, and holds it to the rules. */
  async look(page, name) {
    // An answer that is being said may be looked at too.
    await page.waitForFunction(() => [...document.querySelectorAll("[aria-busy=true]")].every((busy) => busy.querySelector(".thinking")));
    await this.shots(page, name);
    await this.axe(page, name);
  }

  /** No view scrolls sideways, at any width. */
  async fits(page, name) {
    await this.#inEachLook(page, async (look) => {
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(sideways <= 0, `${name}, ${look}: the page scrolls sideways by ${sideways} px`);
    });
  }

  /** Holds a view to the rules of accessibility, at each width and in each colour scheme. */
  async axe(page, name) {
    await page.evaluate(this.home.axe);
    const breaches = [];
    await this.#inEachLook(page, async (look) => {
      const { violations, sideways } = await page.evaluate(async (values) => {
        const { violations } = await axe.run(document, { runOnly: { type: "tag", values }, resultTypes: ["violations"] });
        const { scrollWidth, clientWidth } = document.documentElement;
        return { violations, sideways: scrollWidth - clientWidth };
      }, RULES);
      for (const { id, nodes } of violations) {
        breaches.push(...nodes.map((node) => `${look}: ${id}: ${node.target}: ${node.failureSummary}`));
      }
      if (sideways > 0) breaches.push(`${look}: the page scrolls sideways by ${sideways} px`);
    });
    assert.deepEqual(breaches, [], name);
  }

  /** Takes a view's pictures, if they are asked for. */
  async shots(page, name) {
    const { screenshots } = this.home;
    if (!screenshots) return;
    await this.#inEachLook(page, async (look) => {
      await page.screenshot({ path: join(screenshots, `${name}-${look}.png`), fullPage: true, animations: "disabled" });
    });
  }

  async #inEachLook(page, look) {
    const before = page.viewportSize();
    for (const width of WIDTHS) {
      await page.setViewportSize({ ...before, width });
      for (const colorScheme of COLOR_SCHEMES) {
        await page.emulateMedia({ colorScheme });
        await look(`${width}-${colorScheme}`);
      }
    }
    await page.setViewportSize(before);
    await page.emulateMedia({ colorScheme: null });
  }
}
