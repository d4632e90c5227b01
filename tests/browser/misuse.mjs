//! Hostile texts are shown as text, and people without a permission have neither a form nor access.

import assert from "node:assert/strict";
import { BOT, CONTOSO, RELAY_KEY } from "./harness.mjs";

const MARKUP = "<img src=x onerror=\"window.broken=1\"><script>window.broken=2</script>";
const LINKS = "[here](javascript:window.broken=3) [there](data:text/html,<script>window.broken=4</script>) ![pic](https://elsewhere.example/x.png)";
const DIRECTIONS = "\u202Eright to left\u202C \u2066isolated\u2069 \u200F";
const LONG = "x".repeat(10_000);

async function assertNoCodeRan(page) {
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.equal(await page.locator("main img[src=x], main script, main a[href^='javascript'], main a[href^='data']").count(), 0);
}

export const scenarios = {
  "every view shows hostile names, articles and messages as text": async (visitor) => {
    const { page } = visitor;
    const name = `${MARKUP} ${DIRECTIONS}`;
    const company = await visitor.call("POST", "/end-companies", { body: { psa_company_id: "hostile", psa_company_name: name } });
    assert.equal(company.status, 201, JSON.stringify(company.error));
    const article = await visitor.call("POST", "/knowledge-articles", { body: { title: `Kraken ${name}`.slice(0, 190), body: `# ${MARKUP}\n\n${LINKS}\n\n${DIRECTIONS}\n\n${LONG}\n\nKraken`, audience: "END_USER" } });
    assert.equal(article.status, 201, JSON.stringify(article.error));
    const agent = await visitor.call("POST", "/agents", { body: { name, description: LONG, agent_settings: { welcome_message: `${MARKUP} ${LINKS}`, suggested_prompts: [MARKUP] } } });
    assert.equal(agent.status, 201, JSON.stringify(agent.error));
    const channel = await visitor.call("POST", "/channels", { body: { internal_name: name, audience: "MSP", agent_id: agent.data.agent_id, display_name: MARKUP, welcome_message: `${MARKUP} ${LINKS} ${LONG.slice(0, 900)}` } });
    assert.equal(channel.status, 201, JSON.stringify(channel.error));
    const session = await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: { agent_id: 101, bot_id: BOT, inbound_tenant_id: CONTOSO, title: `${MARKUP}`.slice(0, 200), metadata: { [MARKUP.slice(0, 60)]: MARKUP } } });
    assert.equal(session.status, 201, JSON.stringify(session.error));
    const sent = await visitor.call("POST", `/chat/sessions/${session.data.id}/messages`, { key: RELAY_KEY, body: { message: `Kraken ${MARKUP} ${LINKS} ${DIRECTIONS} ${LONG}` } });
    await visitor.call("GET", `/chat/sessions/${session.data.id}/turns/${sent.data.chat_turn_id}?wait_seconds=20`, { key: RELAY_KEY });

    await visitor.signIn();
    const views = [
      ["#/companies", "<img"], ["#/companies/hostile", "<img"], ["#/knowledge", "Kraken"], [`#/knowledge/${article.data.id}`, "Kraken"],
      ["#/agents", "<img"], [`#/agents/${agent.data.agent_id}`, "<img"], ["#/channels", "<img"], [`#/channels/${channel.data.id}`, "<img"],
      ["#/sessions", "<img"], [`#/sessions/${session.data.id}`, "Kraken"], ["#/audit", "hostile"], [`#/try?agent_id=${agent.data.agent_id}`, "Try it"],
    ];
    for (const [hash, words] of views) {
      await page.goto(hash);
      await page.waitForFunction(([wanted, text]) => location.hash === wanted && document.querySelector("main")?.innerText.includes(text)
        || [...document.querySelectorAll("main input, main textarea")].some((field) => field.value.includes(text)), [hash, words]);
      await page.locator("[aria-busy=true]").waitFor({ state: "detached" });
      await assertNoCodeRan(page);
      await visitor.assertFits(page, hash);
    }
    for (const path of ["/end-companies/hostile", `/channels/${channel.data.id}`, `/agents/${agent.data.agent_id}`, `/knowledge-articles/${article.data.id}`, `/chat/sessions/${session.data.id}`]) {
      assert.equal((await visitor.call("DELETE", path)).status, 204, path);
    }
  },

  "a VIEWER sees no form, and the API refuses a VIEWER's changes": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn(page, "VIEWER");
    for (const name of ["Users", "Keys", "Audit", "Try it"]) assert.equal(await page.getByRole("link", { name, exact: true }).count(), 0, name);
    const channel = (await visitor.call("GET", "/channels?q=Client")).data[0].id;
    const article = (await visitor.call("GET", "/knowledge-articles")).data[0].id;
    for (const hash of ["#/overview", "#/companies", "#/companies/1001", "#/channels", `#/channels/${channel}`, "#/agents", "#/agents/101", "#/knowledge", `#/knowledge/${article}`]) {
      await page.goto(hash);
      await page.waitForFunction((wanted) => location.hash === wanted && document.querySelector("main h1"), hash);
      await page.locator("[aria-busy=true]").waitFor({ state: "detached" });
      const buttons = page.getByRole("main").getByRole("button", { name: /^(new|create|save|delete|link|add|remove|dismiss|fix|choose)\b/i });
      assert.deepEqual(await buttons.allInnerTexts(), [], hash);
      assert.equal(await page.getByRole("main").getByRole("link", { name: /^new (company|channel|agent|article|key)$/i }).count(), 0, hash);
    }
    for (const hash of ["#/keys", "#/users", "#/audit", "#/try"]) {
      await page.goto(hash);
      await page.getByRole("heading", { name: "Page not found" }).waitFor();
    }
    const token = await page.evaluate(() => sessionStorage.getItem("switchboard.token"));
    for (const [method, path] of [["POST", "/end-companies"], ["PUT", "/agents/101"], ["DELETE", `/channels/${channel}`], ["POST", "/api-keys"], ["POST", "/chat/sessions"]]) {
      const { status, error } = await visitor.call(method, path, { key: token, body: {} });
      assert.deepEqual([status, error.code], [403, "forbidden"], path);
    }
  },

  "a USER can chat and read, and cannot manage anything": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn(page, "USER");
    await page.getByRole("link", { name: "Try it" }).click();
    await page.getByRole("button", { name: "Start chat" }).waitFor();
    assert.equal(await page.getByRole("button", { name: "Relay" }).count(), 0);
    await page.goto("#/agents/101");
    await page.getByRole("heading", { level: 1, name: "Service desk" }).waitFor();
    assert.equal(await page.getByRole("button", { name: /^(save|delete)/i }).count(), 0);
  },
};
