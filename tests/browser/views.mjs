//! The layout, accessibility, navigation and size of the views.

import assert from "node:assert/strict";

/** The most bytes that the first view may transfer. */
const MAX_FIRST_VIEW_BYTES = 100_000;
/** Presses of the Tab key in one direction. */
const STOPS = 60;

export const scenarios = {
  "every view fits and is accessible, at both widths and in both color schemes": async (visitor) => {
    const { page } = visitor;
    const first = async (path) => (await visitor.call("GET", path)).data[0].id;
    const channel = await first("/channels?q=Client");
    const article = await first("/knowledge-articles");
    const views = [
      ["companies", "Companies"], ["companies/1001", "Contoso", "company"], ["companies/+new", "New company", "company-new"],
      ["channels", "Channels"], [`channels/${channel}`, "Client help bot", "channel"], ["channels/+new", "New channel", "channel-new"],
      ["agents", "Agents"], ["agents/101", "Service desk", "agent"], ["agents/100", "Neo support", "agent-managed"], ["agents/+new", "New agent", "agent-new"],
      ["knowledge", "Knowledge"], [`knowledge/${article}`, /./, "article"], ["knowledge/+new", "New article", "article-new"],
      ["users", "Users"], ["keys", "Keys"], ["audit", "Audit"], ["nowhere", "Page not found"],
    ];
    await visitor.signIn();
    for (const [hash, title, name = hash] of views) {
      await page.goto(`#/${hash}`);
      await page.waitForFunction((wanted) => location.hash === wanted, `#/${hash}`);
      await page.getByRole("heading", { level: 1, name: title }).waitFor();
      await visitor.inspect(page, name);
    }
  },

  "a list is searched and paged, and Back leads to the same list": async (visitor) => {
    const { page } = visitor;
    await page.clock.install();
    await visitor.signIn();
    for (let change = 0; change < 30; change += 1) {
      assert.equal((await visitor.call("PUT", `/agents/${change < 15 ? 103 : 104}`, { body: { description: `Change ${change}` } })).status, 200);
    }
    await page.goto("#/audit");
    await page.getByText("Page 1").waitFor();
    const first = await page.locator("tbody tr").first().innerText();
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("Page 2").waitFor();
    assert.notEqual(await page.locator("tbody tr").first().innerText(), first);
    await page.getByRole("button", { name: "Previous" }).click();
    await page.getByText("Page 1").waitFor();
    await page.goto("#/companies");
    await page.getByPlaceholder("Search by name").fill("roastery");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1 && location.hash === "#/companies?q=roastery");
    await page.getByRole("link", { name: "Fourth Coffee Roastery" }).click();
    await page.getByRole("heading", { level: 1, name: "Fourth Coffee Roastery" }).waitFor();
    await page.goBack();
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
    await page.getByPlaceholder("Search by name").fill("no such company");
    await page.getByText("No matches.").waitFor();
    await page.getByRole("button", { name: "Clear search and filters" }).click();
    await page.getByRole("link", { name: "Contoso" }).waitFor();
    // The view is left before its search begins. The search must not change the address.
    await page.getByPlaceholder("Search by name").fill("tail");
    await page.evaluate(() => (location.hash = "#/agents"));
    await page.getByRole("heading", { level: 1, name: "Agents" }).waitFor();
    await page.clock.fastForward(1_000);
    assert.equal(await page.evaluate(() => location.hash), "#/agents");
  },

  "the menu of a narrow page leads to the views": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.setViewportSize({ width: 360, height: 740 });
    const menu = page.getByRole("button", { name: "Menu" });
    await menu.click();
    await visitor.takeScreenshots(page, "menu");
    await page.getByRole("link", { name: "Audit" }).click();
    await page.getByRole("heading", { level: 1, name: "Audit" }).waitFor();
    assert.equal(await page.getByRole("link", { name: "Audit" }).isVisible(), false);
    await menu.click();
    await page.keyboard.press("Escape");
    assert.equal(await menu.getAttribute("aria-expanded"), "false");
  },

  "the keyboard reaches every control, the focus is visible, and it returns from a dialog": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.goto("#/sessions");
    await page.getByRole("heading", { level: 1, name: "Sessions" }).waitFor();
    await page.goto("#/companies/1001");
    await page.getByRole("heading", { level: 1, name: "Contoso" }).waitFor();
    await page.locator("[aria-busy=true]").waitFor({ state: "detached" });
    const reached = new Set();
    for (const key of ["Tab", "Shift+Tab"]) {
      await page.getByRole("heading", { level: 1 }).focus();
      for (let stop = 0; stop < STOPS; stop += 1) {
        await page.keyboard.press(key);
        const at = await page.evaluate(() => {
          const { activeElement } = document;
          if (activeElement === document.body) return null;
          const { outlineStyle, outlineWidth } = getComputedStyle(activeElement);
          return { name: activeElement.innerText || activeElement.getAttribute("aria-label") || activeElement.id, isVisible: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
        });
        if (at === null) break;
        assert.ok(at.isVisible, `the focus on ${at.name} is not visible`);
        reached.add(at.name.trim());
      }
    }
    for (const name of ["Skip to content", "Overview", "Audit", "Sign out", "Delete", "Save"]) assert.ok(reached.has(name), `${name} is not among ${[...reached].join(", ")}`);
    const remove = page.getByRole("button", { name: "Delete" });
    await remove.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(await remove.evaluate((button) => button === document.activeElement), true);
  },

  "the first view is small": async (visitor) => {
    const { page } = visitor;
    const wire = await visitor.context.newCDPSession(page);
    let bytes = 0;
    wire.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
    await wire.send("Network.enable");
    await visitor.signIn();
    await page.getByText("The last two weeks").waitFor();
    await page.waitForLoadState("networkidle");
    assert.ok(bytes > 10_000 && bytes < MAX_FIRST_VIEW_BYTES, `${bytes} bytes`);
  },
};
