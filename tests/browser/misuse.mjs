//! Hostile texts are shown as text, and people without a permission have neither a form nor access.

import assert from "node:assert/strict";
import { BOT, CONTOSO, RELAY_KEY } from "./harness.mjs";

const MARKUP = "<img src=x onerror=\"window.broken=1\"><script>window.broken=2</script>";
const LINKS = "[here](javascript:window.broken=3) [there](data:text/html,<script>window.broken=4</script>) ![pic](https://elsewhere.example/x.png)";
const DIRECTIONS = "\u202Eright to left\u202C \u2066isolated\u2069 \u200F";
const LONG = "x".repeat(10_000);

/** Parts of hostile texts. */
const PARTS = [
  "`", "`a ", "`` ` ", "```\n", "\n``` `", "<", "<a \"", "<a\"'\"", "</", "<!", "<!--", "<?", "<svg ", "<script>", "</script", "&", "<x>", "<td>", "<br>", "<pre>", "<h6>", "</a>", "<ul><li>",
  "<ol start=18446744073709551615><li>", "<http://", "http://x)", "[", "]", "[a](", "[a](http://x \"", "![a](http://x)", "*", "*a", "**a*", "_a", "~~", "|", "|a\n", "a|b\n-|-\n", "\\", "> ", "- ", "1. a\n", "#", "# a\n", " ", "\n", "\r", "\t",
];
/** HTML and its text. */
const READ = [
  ["<h2 class=\"x\">Reset&nbsp;the password</h2>\n<p>Open <b>the</b>\n portal &amp; sign in.</p><ul><li>Click<ul><li><i>Reset</i></li></ul></li><li><p>Wait</p></li></ul>", "## Reset the password\n\nOpen the portal & sign in.\n\n- Click\n  - Reset\n- Wait"],
  ["<ol start=3><li>a<li>b</ol>", "3. a\n4. b"],
  ["<table><tr><th>Host</th><th>Port</th></tr><tr><td>mail</td><td>993</td></tr></table>", "Host | Port\nmail | 993"],
  ["<p>a</p><pre>one\n  two &lt;x&gt;</pre><p>b</p>", "a\n\n```\none\n  two <x>\n```\n\nb"],
  ["<p><a href=https://a.example>one <a href=https://b.example>two</a> three</a></p>", "one (https://a.example) two (https://b.example) three"],
  ["# Title\nOpen the <b>portal</b><br>and run `<b>` for <server name>:\n\n```\n<p>code</p>\n```\n", "# Title\nOpen the portal\nand run `<b>` for <server name>:\n\n```\n<p>code</p>\n```"],
  ["Use `<div>` and `</div>` here.", "Use `<div>` and `</div>` here."],
];

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

  // Code that searches from each mark anew takes minutes for such texts.
  "texts of 64 KB of any marks are read and drawn": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    const results = await page.evaluate(async ([parts, size]) => {
      const [{ textOf }, { markdown }] = await Promise.all([import("/dashboard/html.js"), import("/dashboard/markdown.js")]);
      const runs = Array.from({ length: 357 }, (_, index) => "`".repeat(index + 1));
      const fill = (part) => part.repeat(size / part.length);
      const bodies = [runs.join(" "), `${runs.reverse().join("\n\nx ")}`, `<a href=tel:>${"<br>".repeat(8_000)}</a>`, `<pre>${fill(" ")}</pre>`, `<${fill("a")}`, ...parts.map(fill)];
      return bodies.map((body) => {
        const texts = [body, `<p>${body}</p>`, `x${body}<br><br>`].map((html) => ({ html, text: textOf(html) }));
        markdown(body);
        return { body: body.slice(0, 40), same: texts[0].text === body, isSmall: texts.every(({ html, text }) => text.length <= 4 * html.length + 1_000) };
      });
    }, [PARTS, 65_000]);
    assert.equal(results.length, PARTS.length + 5);
    for (const { body, isSmall } of results) assert.ok(isSmall, body);
    for (const { body, same } of results.slice(0, 2)) assert.ok(same, body);
    const read = await page.evaluate(async (bodies) => {
      const { textOf } = await import("/dashboard/html.js");
      return bodies.map((body) => textOf(body));
    }, READ.map(([body]) => body));
    assert.deepEqual(read, READ.map(([, text]) => text));
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
