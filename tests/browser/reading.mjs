//! Lists, tables, dates, dialogs and a slow or missing server: what a reader sees of each.

import assert from "node:assert/strict";
import { BOT, CONTOSO, RELAY_KEY } from "./harness.mjs";

/** The least width of a column. A column of torn words is narrower. */
const MIN_COLUMN_PX = 60;
/** The most height of a row: two lines of the title, and the badges. */
const MAX_ROW_PX = 110;

/** The number of lines on which a text is drawn. */
const linesOf = (locator) => locator.evaluate((element) => {
  const range = document.createRange();
  range.selectNodeContents(element);
  return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
});

const focused = (page) => page.evaluate(() => document.activeElement.innerText || document.activeElement.getAttribute("name") || document.activeElement.tagName);

export const scenarios = {
  "a long title takes two lines of its column, has a tooltip, and tears no other column": async (visitor) => {
    const { page } = visitor;
    const titles = ["Unbroken".repeat(24), "A printer on the third floor prints each page of every document twice, and in the wrong order ".repeat(2).trim()];
    const made = [];
    for (const title of titles) {
      const { status, data } = await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: { agent_id: 101, bot_id: BOT, inbound_tenant_id: CONTOSO, title } });
      assert.equal(status, 201);
      made.push(data.id);
    }
    await visitor.signIn();
    await page.goto("#/sessions");
    for (const title of titles) {
      const name = page.locator(`bdi[title="${title}"]`);
      await name.waitFor();
      await page.getByRole("row").filter({ has: name }).getByText("Contoso").waitFor();
      const row = page.getByRole("row").filter({ has: name });
      const { height } = await row.boundingBox();
      assert.ok(height <= MAX_ROW_PX, `the row is ${height} px high`);
      for (const cell of await row.getByRole("cell").all()) {
        const { width } = await cell.boundingBox();
        assert.ok(width >= MIN_COLUMN_PX, `${await cell.innerText()}: ${width} px`);
      }
      // A word of another column stays in one piece.
      assert.equal(await linesOf(row.getByText("Contoso")), 1);
    }
    const sideways = await page.locator(".table-frame").evaluate((frame) => frame.scrollWidth - frame.clientWidth);
    assert.ok(sideways <= 0, `the list scrolls sideways by ${sideways} px`);
    await visitor.inspect(page, "sessions-long");
    for (const id of made) assert.equal((await visitor.call("DELETE", `/chat/sessions/${id}`)).status, 204);
  },

  "a table of Markdown breaks no word, number, date or address": async (visitor) => {
    const { page } = visitor;
    const rows = [
      "| Device | Bought | Price | Address | What to do when it does not answer for a long time |",
      "| --- | --- | ---: | --- | --- |",
      "| Multifunctionprinter | 2026-11-29 | 1,234.50 EUR | 10.20.30.40 | Restart the device, wait for two minutes, and call the vendor if it stays dark |",
      "| Router | 29 Nov 2026 | 99 EUR | fe80::1 | Nothing |",
    ];
    await visitor.signIn();
    await page.goto("#/knowledge/+new");
    await page.getByLabel("Text").fill(rows.join("\n"));
    const table = page.locator(".preview table");
    await table.waitFor();
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 800 });
      for (const text of ["Multifunctionprinter", "2026-11-29", "1,234.50 EUR", "10.20.30.40", "29 Nov 2026", "Device", "Bought"]) {
        assert.equal(await linesOf(table.getByText(text, { exact: true })), 1, `${text} at ${width} px`);
      }
      assert.ok(await linesOf(table.getByText("Restart the device")) > 1);
    }
    await visitor.assertFits(page, "a wide table");
  },

  "Next goes to the top of the next page, and Back, a reload and a link lead to the same page": async (visitor) => {
    const { page, context } = visitor;
    for (let change = 0; change < 60; change += 1) {
      assert.equal((await visitor.call("PUT", `/agents/${change % 2 === 0 ? 103 : 104}`, { body: { description: `Page ${change}` } })).status, 200);
    }
    await visitor.signIn();
    await page.goto("#/audit?action=agent.update");
    await page.getByText("Page 1").waitFor();
    const firstRow = (tab) => tab.locator("tbody tr").first().locator("time").getAttribute("datetime");
    const start = await firstRow(page);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("Page 2").waitFor();
    await page.waitForFunction(() => document.activeElement.tagName === "H1");
    assert.equal(await page.evaluate(() => scrollY), 0);
    const second = await firstRow(page);
    assert.notEqual(second, start);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("Page 3").waitFor();
    const third = await firstRow(page);
    const address = page.url();
    assert.match(address, /#\/audit\?action=agent\.update&page=3&cursor=./);

    await page.reload();
    await page.getByText("Page 3").waitFor();
    assert.equal(await firstRow(page), third);
    await page.goBack();
    await page.getByText("Page 2").waitFor();
    assert.equal(await firstRow(page), second);
    await page.getByRole("link", { name: "Agents" }).click();
    await page.getByRole("heading", { level: 1, name: "Agents" }).waitFor();
    await page.goBack();
    await page.getByText("Page 2").waitFor();
    assert.equal(await firstRow(page), second);
    await page.getByRole("button", { name: "Previous" }).click();
    await page.getByText("Page 1").waitFor();
    assert.equal(await firstRow(page), start);
    assert.equal(new URL(page.url()).hash, "#/audit?action=agent.update");

    // A link knows no earlier pages.
    const other = await context.newPage();
    await other.goto(address);
    await other.getByText("Page 3").waitFor();
    assert.equal(await firstRow(other), third);
    assert.equal(await other.getByRole("button", { name: "Previous" }).isVisible(), false);
    await other.getByRole("button", { name: "First page" }).click();
    await other.getByText("Page 1").waitFor();
    assert.equal(await firstRow(other), start);
  },

  "a link with a cursor that the server does not know leads to the first page": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/status of 400.*cursor=/);
    await visitor.signIn();
    await page.goto("#/companies?page=7&cursor=made-up");
    await page.getByRole("link", { name: "Contoso" }).waitFor();
    assert.equal(new URL(page.url()).hash, "#/companies");
  },

  "a German browser shows the page in one language": async ({ home, demo }) => {
    const visitor = await home.visitor({ demo, locale: "de-DE", timezoneId: "Europe/Berlin" });
    const { page } = visitor;
    assert.equal((await visitor.call("POST", "/chat/sessions", { body: { agent_id: 102 } })).status, 201);
    await visitor.signIn();
    assert.equal(await page.locator("html").getAttribute("lang"), "en");
    await page.goto("#/knowledge/+new");
    await page.getByText("0 of 65,536 bytes").waitFor();
    await page.goto("#/audit");
    await page.locator("tbody time").first().waitFor();
    for (const text of await page.locator("tbody time").allInnerTexts()) assert.match(text, /^(now|yesterday|\d+ (second|minute|hour|day)s? ago|[A-Z][a-z]{2} \d+, \d{4})$/);
    assert.match(await page.locator("tbody time").first().getAttribute("title"), /^(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, /);
    await page.goto("#/overview");
    await page.locator(".plot-days").first().waitFor();
    assert.match(await page.locator(".plot-days span").first().evaluate((label) => label.textContent), /^[A-Z][a-z]{2}, [A-Z][a-z]{2} \d+$/);

    // A browser draws a field of dates, and its own message about a field, in its own language.
    await page.goto("#/keys/+new");
    const expires = page.getByLabel("Expires");
    assert.equal(await expires.getAttribute("type"), "text");
    await page.getByLabel("Name").fill("German");
    for (const wrong of ["31.01.2030", "2030-02-31", "2030-01-31 25:00"]) {
      await expires.fill(wrong);
      await page.getByRole("button", { name: "Create key" }).click();
      await page.getByText("Write a date and a time as YYYY-MM-DD HH:MM").waitFor();
    }
    await expires.fill("2030-01-31 18:00");
    await page.getByRole("button", { name: "Create key" }).click();
    const shown = page.getByRole("dialog").locator(".secret code").first();
    await shown.waitFor();
    await page.getByRole("button", { name: "I have copied it" }).click();
    const admin = await page.evaluate(() => sessionStorage.getItem("switchboard.token"));
    const { data } = await visitor.call("GET", "/api-keys?q=German", { key: admin });
    assert.equal(data[0].expires_at, "2030-01-31T17:00:00.000Z");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByText("Enter a sign-in link or an API key.").waitFor();
    await visitor.assertNoErrors();
  },

  "a dialog focuses its first field, else its primary button, else its title": async (visitor) => {
    const { page } = visitor;
    const { data: session } = await visitor.call("POST", "/chat/sessions", { body: { agent_id: 102, title: "Dialogs" } });
    await visitor.signIn();
    await page.goto("#/users");
    await page.getByRole("button", { name: "Add user" }).click();
    assert.equal(await focused(page), "id");
    await page.keyboard.press("Escape");
    await page.goto(`#/sessions/${session.id}`);
    await page.getByRole("button", { name: "Export" }).click();
    assert.equal(await focused(page), "JSON");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Delete" }).click();
    assert.equal(await focused(page), "Delete this session?");
    await visitor.assertAccessible(page, "a dialog");
    // The buttons follow in their order.
    for (const name of ["", "Cancel", "Delete session"]) {
      await page.keyboard.press("Tab");
      if (name !== "") assert.equal(await focused(page), name);
    }
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "Sessions" }).waitFor();
  },

  "a slow first load says so, and a page whose code does not load says what to do": async (visitor) => {
    const { page, home } = visitor;
    visitor.expectError(/ERR_FAILED.*app\.js/);
    let release;
    const released = new Promise((resolve) => (release = resolve));
    await page.route("**/dashboard/app.js", async (route) => {
      await released;
      return route.abort();
    });
    await page.goto(`${home.demo.url}/dashboard`, { waitUntil: "commit" });
    await page.getByText("Loading the dashboard…").waitFor();
    assert.equal(await page.getByText("This takes longer than usual.").isVisible(), false);
    release();
    await page.getByText("This takes longer than usual.").waitFor();
    await visitor.assertAccessible(page, "the page before its code");
    await page.unroute("**/dashboard/app.js");
    await page.getByRole("link", { name: "try again" }).click();
    await page.getByLabel("Sign-in link or API key").waitFor();
  },

  "without a server, a view, a list and the sign-in page say so and can be loaded again": async (visitor) => {
    const { page, home } = visitor;
    visitor.expectError(/ERR_INTERNET_DISCONNECTED|ERR_FAILED/);
    const cannotBeReached = page.getByText("The server cannot be reached.").first();
    const again = page.getByRole("button", { name: "Try again" });
    await visitor.signIn();
    // The code of a view.
    await page.route("**/*", (route) => route.abort());
    await page.goto("#/audit");
    await cannotBeReached.waitFor();
    await visitor.takeScreenshots(page, "offline");
    await again.click();
    await page.locator(".toast.bad").getByText("The server cannot be reached.").waitFor();
    await page.unroute("**/*");
    await again.click();
    await page.locator("tbody tr").first().waitFor();
    // The rows of a list.
    await page.route("**/end-companies*", (route) => route.abort());
    await page.goto("#/companies");
    await cannotBeReached.waitFor();
    await page.unroute("**/end-companies*");
    await again.click();
    await page.getByRole("link", { name: "Contoso" }).waitFor();
    // The person behind the token.
    await page.route("**/whoami", (route) => route.abort());
    await page.reload();
    await cannotBeReached.waitFor();
    await page.unroute("**/whoami");
    await again.click();
    await page.getByRole("link", { name: "Contoso" }).waitFor();
    // The ways to sign in.
    await page.route("**/auth/config", (route) => route.abort());
    await page.getByRole("button", { name: "Sign out" }).click();
    await cannotBeReached.waitFor();
    await page.unroute("**/auth/config");
    await again.click();
    await page.locator(".sign-in .secret code").waitFor();
  },

  "a view that loads slowly says what is loading": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    let release;
    const released = new Promise((resolve) => (release = resolve));
    await page.route("**/agents/101", async (route) => {
      await released;
      return route.continue();
    });
    await page.goto("#/agents/101");
    await page.getByRole("status").getByText("Loading Agents…").waitFor();
    release();
    await page.getByRole("heading", { level: 1, name: "Service desk" }).waitFor();
    assert.equal(await page.getByText("Loading Agents…").count(), 0);
  },
};
