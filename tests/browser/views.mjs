//! Every view, as it looks and as it is reached.

import assert from "node:assert/strict";

/** The first view with all that it loads, as it comes over the wire. */
const LARGEST_FIRST_VIEW_BYTES = 100_000;
/** Stops of the tabulator key that are looked at. */
const STOPS = 60;

export const scenarios = {
  "every view is reached, fits and can be used by everybody, at both widths, light and dark": async (visitor) => {
    const { page } = visitor;
    const first = async (path) => (await visitor.call("GET", path)).data[0].id;
    const channel = await first("/channels?q=Client");
    const article = await first("/knowledge-articles");
    const places = [
      ["companies", "Companies"], ["companies/1001", "Contoso", "company"], ["companies/+new", "New company", "company-new"],
      ["channels", "Channels"], [`channels/${channel}`, "Client help bot", "channel"], ["channels/+new", "New channel", "channel-new"],
      ["agents", "Agents"], ["agents/101", "Service desk", "agent"], ["agents/100", "Neo support", "agent-managed"], ["agents/+new", "New agent", "agent-new"],
      ["knowledge", "Knowledge"], [`knowledge/${article}`, /./, "article"], ["knowledge/+new", "New article", "article-new"],
      ["users", "Users"], ["keys", "Keys"], ["audit", "Audit"], ["nowhere", "This is not here."],
    ];
    await visitor.signIn();
    for (const [hash, title, name = hash] of places) {
      await page.goto(`#/${hash}`);
      await page.waitForFunction((wanted) => location.hash === wanted, `#/${hash}`);
      await page.getByRole("heading", { level: 1, name: title }).waitFor();
      await visitor.look(page, name);
    }
  },

  "a list is searched, paged and filtered, its address leads back to it, and to no other view": async (visitor) => {
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
    await page.getByPlaceholder("Search by name").fill("nobody is called so");
    await page.getByText("Nothing fits.").waitFor();
    await page.getByRole("button", { name: "Clear search and filters" }).click();
    await page.getByRole("link", { name: "Contoso" }).waitFor();
    // What was typed last has not been asked for yet when the view goes.
    await page.getByPlaceholder("Search by name").fill("tail");
    await page.evaluate(() => (location.hash = "#/agents"));
    await page.getByRole("heading", { level: 1, name: "Agents" }).waitFor();
    await page.clock.fastForward(1_000);
    assert.equal(await page.evaluate(() => location.hash), "#/agents");
  },

  "what a narrow page hides behind its menu is reached from it": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.setViewportSize({ width: 360, height: 740 });
    const menu = page.getByRole("button", { name: "Menu" });
    await menu.click();
    await visitor.shots(page, "menu");
    await page.getByRole("link", { name: "Audit" }).click();
    await page.getByRole("heading", { level: 1, name: "Audit" }).waitFor();
    assert.equal(await page.getByRole("link", { name: "Audit" }).isVisible(), false);
    await menu.click();
    await page.keyboard.press("Escape");
    assert.equal(await menu.getAttribute("aria-expanded"), "false");
  },

  "the keyboard reaches everything, is seen where it is, and comes back from a dialog": async (visitor) => {
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
          return { name: activeElement.innerText || activeElement.getAttribute("aria-label") || activeElement.id, isSeen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
        });
        if (at === null) break;
        assert.ok(at.isSeen, `no focus is seen on ${at.name}`);
        reached.add(at.name.trim());
      }
    }
    for (const name of ["Skip to the content", "Overview", "Audit", "Sign out", "Delete", "Save"]) assert.ok(reached.has(name), `${name} is not among ${[...reached].join(", ")}`);
    const remove = page.getByRole("button", { name: "Delete" });
    await remove.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(await remove.evaluate((button) => button === document.activeElement), true);
  },

  "the first view is light": async (visitor) => {
    const { page } = visitor;
    const wire = await visitor.context.newCDPSession(page);
    let bytes = 0;
    wire.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
    await wire.send("Network.enable");
    await visitor.signIn();
    await page.getByText("The last two weeks").waitFor();
    await page.waitForLoadState("networkidle");
    assert.ok(bytes > 10_000 && bytes < LARGEST_FIRST_VIEW_BYTES, `${bytes} bytes`);
  },
};
