//! Agents, channels, companies, articles and keys are created and changed.

import assert from "node:assert/strict";

/** A bot that has no channel. */
const BOT = "b07fab1e-0000-4000-8000-00000000beef";

export const scenarios = {
  "a key is created, shown once, used, rotated and revoked": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.goto("#/keys");
    await page.getByRole("link", { name: "New key" }).first().click();
    await page.getByLabel("Name").fill("Ticket system");
    await page.getByRole("button", { name: "Create key" }).click();
    const shown = page.getByRole("dialog").locator(".secret code").first();
    await shown.waitFor();
    const key = await shown.innerText();
    assert.match(key, /^neo_sk_demo_[A-Za-z0-9]{43}$/);
    await visitor.inspect(page, "key-new");
    const me = await visitor.call("GET", "/whoami", { key });
    assert.deepEqual([me.status, me.data.name, me.data.kind], [200, "Ticket system", "service_account"]);
    // The key is shown only once, so the Escape key must not close the dialog.
    for (let times = 0; times < 3; times += 1) await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "I have copied it" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.waitForFunction((gone) => !document.documentElement.outerHTML.includes(gone), key);
    assert.ok(!(await page.evaluate(() => JSON.stringify(sessionStorage))).includes(key));

    const row = page.getByRole("row").filter({ hasText: "Ticket system" });
    await row.getByRole("button", { name: "Rotate" }).click();
    await page.getByRole("dialog").getByRole("button", { name: /rotate/i }).click();
    await shown.waitFor();
    const next = await shown.innerText();
    assert.notEqual(next, key);
    for (const credential of [key, next]) assert.equal((await visitor.call("GET", "/whoami", { key: credential })).status, 200);
    await page.getByRole("button", { name: "I have copied it" }).click();
    await page.getByRole("row").filter({ hasText: next.slice(-4) }).getByRole("button", { name: "Revoke" }).click();
    await page.getByRole("dialog").getByRole("button", { name: /revoke/i }).click();
    await page.getByRole("row").filter({ hasText: next.slice(-4) }).getByText("revoked", { exact: false }).first().waitFor();
    assert.equal((await visitor.call("GET", "/whoami", { key: next })).error.details.reason, "revoked");
  },

  "a person who saves an agent that somebody else changed chooses between the versions": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/status of 409.*\/agents\//);
    const { data: agent } = await visitor.call("POST", "/agents", { body: { name: "Night desk", description: "As it was" } });
    await visitor.signIn();
    await page.goto(`#/agents/${agent.agent_id}`);
    await page.getByLabel("Description").fill("As I want it");
    assert.equal((await visitor.call("PUT", `/agents/${agent.agent_id}`, { body: { description: "As they want it", name: "Night desk, renamed" } })).status, 200);
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("As they want it").waitFor();
    await visitor.inspect(page, "agent-conflict");
    assert.equal((await visitor.call("GET", `/agents/${agent.agent_id}`)).data.description, "As they want it");
    await page.getByRole("button", { name: "Save selection" }).click();
    await page.waitForFunction(() => document.querySelector("#toasts")?.innerText !== "");
    const { data: after } = await visitor.call("GET", `/agents/${agent.agent_id}`);
    assert.deepEqual([after.description, after.name], ["As I want it", "Night desk, renamed"]);
  },

  "a channel is created, and its welcome message is previewed": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.goto("#/channels/+new");
    await page.getByLabel("Name", { exact: true }).or(page.getByLabel("Name *")).first().fill("Weekend bot");
    await page.getByLabel("Audience").selectOption("END_USER");
    await page.getByRole("combobox", { name: "Agent" }).fill("service");
    await page.getByRole("option", { name: "Service desk" }).click();
    await page.getByLabel("Bot id").fill(BOT);
    await page.getByLabel("Bot’s name").fill("Weekend helper");
    await page.getByLabel("Welcome message").fill("Hello on a **weekend**");
    await page.getByText("Weekend helper", { exact: true }).first().waitFor();
    await page.locator(".markdown strong", { hasText: "weekend" }).waitFor();
    await page.getByRole("button", { name: "Create channel" }).click();
    await page.getByRole("heading", { level: 1, name: "Weekend bot" }).waitFor();
    const { data: [channel] } = await visitor.call("GET", "/channels?q=Weekend");
    assert.deepEqual([channel.bot_id, channel.display_name, channel.agent_id], [BOT, "Weekend helper", 101]);
    assert.equal((await visitor.call("DELETE", `/channels/${channel.id}`)).status, 204);
  },

  "the form of an article shows its preview, and who can see it": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.goto("#/knowledge/+new");
    await page.getByLabel("Title").fill("Quokka printer");
    await page.getByLabel("Audience").selectOption("END_USER");
    await page.getByRole("combobox", { name: "Company" }).fill("conto");
    await page.getByRole("option", { name: "Contoso" }).click();
    await page.getByRole("textbox", { name: /^(body|text|article)/i }).fill("## Toner\n\nThe *Quokka* takes `QK-7`.");
    await page.locator(".markdown em", { hasText: "Quokka" }).waitFor();
    await page.getByText(/staff of contoso/i).first().waitFor();
    await page.getByRole("button", { name: "Create article" }).click();
    await page.getByRole("heading", { level: 1, name: "Quokka printer" }).waitFor();
    const { data: [article] } = await visitor.call("GET", "/knowledge-articles?q=Quokka");
    assert.deepEqual([article.audience, article.end_company_id, article.agent_ids], ["END_USER", "1001", []]);
    assert.equal((await visitor.call("DELETE", `/knowledge-articles/${article.id}`)).status, 204);
  },

  "a form takes no input while it is saved, and keeps the focus": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.goto("#/companies/1003");
    const instructions = page.getByLabel("Internal instructions");
    const before = await instructions.inputValue();
    let release;
    await page.route("**/end-companies/1003", async (route) => {
      if (route.request().method() === "PUT") await new Promise((resolve) => (release = resolve));
      await route.continue();
    });
    await page.getByLabel("Name").fill("Fourth Coffee House");
    await page.getByLabel("Name").press("Enter");
    await page.waitForFunction(() => document.querySelector("form[inert]"));
    await page.keyboard.type("lost");
    release();
    await page.getByRole("heading", { level: 1, name: "Fourth Coffee House" }).waitFor();
    await page.waitForFunction(() => !document.querySelector("form[inert]"));
    assert.deepEqual([await page.getByLabel("Name").inputValue(), await instructions.inputValue()], ["Fourth Coffee House", before]);
    assert.equal(await page.getByLabel("Name").evaluate((field) => field === document.activeElement), true);
    assert.equal((await visitor.call("PUT", "/end-companies/1003", { body: { psa_company_name: "Fourth Coffee" } })).status, 200);
  },

  "the dashboard asks before unsaved input is lost": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.goto("#/companies/1003");
    const name = page.getByLabel("Name");
    await name.fill("Fourth Coffee Ltd");
    await page.getByRole("link", { name: "Agents" }).click();
    const ask = page.getByRole("dialog", { name: "Leave without saving?" });
    await ask.getByRole("button", { name: "Cancel" }).click();
    assert.equal(await name.inputValue(), "Fourth Coffee Ltd");
    assert.match(page.url(), /#\/companies\/1003$/);
    await page.getByRole("link", { name: "Agents" }).click();
    await ask.getByRole("button", { name: "Leave" }).click();
    await page.getByRole("heading", { level: 1, name: "Agents" }).waitFor();
    assert.equal((await visitor.call("GET", "/end-companies/1003")).data.psa_company_name, "Fourth Coffee");
  },
};
