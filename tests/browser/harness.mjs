//! Drives a real browser. A scenario fails if the page sends a request to another server, or if the
//! browser reports an error that the scenario did not expect.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { access, constants, mkdir, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const TENANT = "northwind-it";
/** Keys and ids of the demo data. */
export const NORTHWIND_KEY = "neo_sk_demo_northwind00000000";
export const FABRIKAM_KEY = "neo_sk_demo_fabrikam000000000";
export const RELAY_KEY = "neo_sk_demo_relay0000platform";
export const BOT = "b07fab1e-c0de-4bee-8ace-facade0fb075";
export const CONTOSO = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";
export const TAILSPIN = "0ddba110-face-4fee-9add-1eaf1ed0dd01";
/** The timeout of a single wait. Only a failing test waits this long. */
const TIMEOUT_MILLISECONDS = 10_000;
const WIDTHS = [1280, 360];
const COLOR_SCHEMES = ["light", "dark"];
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** The path of the installed browser. */
async function executable() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    for (const folder of process.env.PATH.split(delimiter)) {
      const path = join(folder, name);
      const found = await access(path, constants.X_OK).then(() => true, () => false);
      if (found) return path;
    }
  }
  throw new Error("chromium is not installed");
}

/** Starts the browser. Screenshots are written to the folder `screenshots`, if given. */
export async function openBrowser(binary, demo, screenshots) {
  const browser = await chromium.launch({
    executablePath: await executable(),
    // The sandbox of Chromium does not run as root.
    chromiumSandbox: process.getuid() !== 0,
    timeout: 3 * TIMEOUT_MILLISECONDS,
  });
  const axe = await readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");
  if (screenshots) await mkdir(screenshots, { recursive: true });
  return new Browser({ browser, binary, demo, axe, screenshots });
}

class Browser {
  constructor(parts) {
    Object.assign(this, parts);
  }

  /**
   * Makes a test of a scenario, which gets a new visitor. The test fails if a page reports an
   * error.
   */
  test(scenario) {
    return async () => {
      this.visitors = [];
      try {
        const visitor = await this.visitor();
        await scenario(visitor);
        await visitor.assertNoErrors();
      } catch (error) {
        // An error in the page is often the cause of a failed assertion.
        error.stack += this.visitors.flatMap(({ errors }) => errors).map((text) => `\n    in the page: ${text}`).join("");
        throw error;
      } finally {
        for (const { context } of this.visitors) await context.close();
      }
    };
  }

  /**
   * Opens a page of a demo server. `others` are further servers that the page may send requests to.
   * `settings` are those of the browser, such as its language.
   */
  async visitor({ demo = this.demo, others = [], ...settings } = {}) {
    const visitor = await Visitor.open(this, demo, others, settings);
    this.visitors.push(visitor);
    return visitor;
  }

  close() {
    return this.browser.close();
  }
}

/** A person with a separate browser profile. */
class Visitor {
  /**
   * Requests to other servers, and errors of the browser, which include violations of the security
   * policy.
   */
  errors = [];
  /** The address of every request, without its fragment, which a browser never sends. */
  addresses = [];
  #expected = [];

  static async open(home, demo, others, settings) {
    const visitor = new Visitor();
    const context = await home.browser.newContext({
      baseURL: `${demo.url}/dashboard`,
      reducedMotion: "reduce",
      serviceWorkers: "block",
      viewport: { width: WIDTHS[0], height: 800 },
      ...settings,
    });
    Object.assign(visitor, { home, demo, others, context });
    context.setDefaultTimeout(TIMEOUT_MILLISECONDS);
    await visitor.#watch();
    visitor.page = await context.newPage();
    return visitor;
  }

  async #watch() {
    const { context, errors, addresses } = this;
    const origins = [this.demo.url, ...this.others].map((url) => new URL(url).origin);
    await context.route(
      () => true,
      (route) => {
        const url = new URL(route.request().url());
        if (origins.includes(url.origin)) return route.continue();
        errors.push(`a request for ${url}`);
        return route.abort();
      },
    );
    context.on("request", (request) => addresses.push(request.url().split("#")[0]));
    context.on("weberror", (error) => errors.push(String(error.error())));
    context.on("console", (message) => {
      if (message.type() === "error") errors.push(`${message.text()} (${message.location().url})`);
    });
  }

  /** Expects an error that the browser reports, for example for a response with status 409. */
  expectError(pattern) {
    this.#expected.push(pattern);
  }

  /** Fails if the browser reported an unexpected error, or did not report an expected one. */
  assertNoErrors() {
    const isExpected = (error) => this.#expected.some((pattern) => pattern.test(error));
    const unexpected = this.errors.find((error) => !isExpected(error));
    assert.equal(unexpected, undefined);
    for (const pattern of this.#expected) {
      assert.ok(this.errors.some((error) => pattern.test(error)), `the browser reported no error like ${pattern}`);
    }
  }

  /** Creates a sign-in link for a role. */
  async link(role = "ADMIN") {
    const { demo, home: { binary } } = this;
    const { host } = new URL(demo.url);
    const flags = ["--data", demo.data, "--tenant", TENANT, "--role", role, "--listen", host];
    const { stdout } = await promisify(execFile)(binary, ["login-link", ...flags], { timeout: TIMEOUT_MILLISECONDS });
    return stdout.trim();
  }

  /** Signs in with a new link. */
  async signIn(page = this.page, role = "ADMIN") {
    await page.goto(await this.link(role));
    await this.isSignedIn(page);
  }

  async isSignedIn(page = this.page) {
    await page.getByRole("navigation", { name: "Views" }).waitFor();
    await page.getByRole("heading", { level: 1 }).waitFor();
  }

  /**
   * Calls the API, by default as Northwind's service account. Returns the status and the envelope.
   */
  async call(method, path, { key = NORTHWIND_KEY, body } = {}) {
    const reply = await fetch(`${this.demo.url}/public-api${path}`, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    return { status: reply.status, ...(reply.status === 204 ? {} : await reply.json()) };
  }

  /** Takes screenshots of a view, if requested, and checks its accessibility. */
  async inspect(page, name) {
    // A view is ready when nothing is loading, except an answer that is being written.
    await page.waitForFunction(() => [...document.querySelectorAll("[aria-busy=true]")].every((busy) => busy.querySelector(".thinking")));
    await this.takeScreenshots(page, name);
    await this.assertAccessible(page, name);
  }

  /** Checks that a view does not scroll sideways at any width. */
  async assertFits(page, name) {
    await this.#inEachLayout(page, async (layout) => {
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(sideways <= 0, `${name}, ${layout}: the page scrolls sideways by ${sideways} px`);
    });
  }

  /** Checks the accessibility of a view, at each width and in each color scheme. */
  async assertAccessible(page, name) {
    await page.evaluate(this.home.axe);
    const problems = [];
    await this.#inEachLayout(page, async (layout) => {
      const { violations, sideways } = await page.evaluate(async (values) => {
        const { violations } = await axe.run(document, { runOnly: { type: "tag", values }, resultTypes: ["violations"] });
        const { scrollWidth, clientWidth } = document.documentElement;
        return { violations, sideways: scrollWidth - clientWidth };
      }, RULES);
      for (const { id, nodes } of violations) {
        problems.push(...nodes.map((node) => `${layout}: ${id}: ${node.target}: ${node.failureSummary}`));
      }
      if (sideways > 0) problems.push(`${layout}: the page scrolls sideways by ${sideways} px`);
    });
    assert.deepEqual(problems, [], name);
  }

  /** Takes screenshots of a view, if requested. */
  async takeScreenshots(page, name) {
    const { screenshots } = this.home;
    if (!screenshots) return;
    await this.#inEachLayout(page, async (layout) => {
      await page.screenshot({ path: join(screenshots, `${name}-${layout}.png`), fullPage: true, animations: "disabled" });
    });
  }

  async #inEachLayout(page, run) {
    const before = page.viewportSize();
    for (const width of WIDTHS) {
      await page.setViewportSize({ ...before, width });
      for (const colorScheme of COLOR_SCHEMES) {
        await page.emulateMedia({ colorScheme });
        await run(`${width}-${colorScheme}`);
      }
    }
    await page.setViewportSize(before);
    await page.emulateMedia({ colorScheme: null });
  }
}
