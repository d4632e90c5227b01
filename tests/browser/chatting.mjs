//! Chats with agents, seen by the person who writes and by others.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { startDemo } from "../demo-server.mjs";
import { BOT, CONTOSO, RELAY_KEY } from "./harness.mjs";

/** A picture of one pixel. */
const PNG = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");

/** Searches in a picker and chooses an option. */
async function pick(page, label, words, option) {
  await page.getByRole("combobox", { name: label }).fill(words);
  await page.getByRole("option", { name: option }).click();
}

async function tryAsTechnician(page) {
  await page.goto("#/try");
  await pick(page, "Agent", "technician", "Technician assistant");
  await page.getByRole("button", { name: "Start chat" }).click();
  return page.getByRole("textbox", { name: "Message" });
}

const answers = (page) => page.getByRole("list", { name: "Conversation" }).locator("> .assistant");
const completeAnswer = (page) => answers(page).last().getByRole("button", { name: "Good answer" });

/** A model server that sends each part of its answer when the test says so. */
async function startModel() {
  let current = null;
  let waiting = null;
  let breaks = false;
  const server = createServer(async (request, reply) => {
    for await (const _ of request);
    if (breaks) {
      reply.writeHead(400).end();
      return;
    }
    reply.writeHead(200, { "content-type": "text/event-stream" });
    reply.flushHeaders();
    current = reply;
    waiting?.();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const chunk = (body) => current.write(`data: ${JSON.stringify(body)}\n\n`);
  return {
    flags: ["--model-url", `http://127.0.0.1:${server.address().port}/v1`, "--model-fast", "fast", "--model-smart", "smart"],
    async isAsked() {
      if (current === null) await new Promise((resolve) => (waiting = resolve));
    },
    sends: (content) => chunk({ choices: [{ delta: { content } }] }),
    ends() {
      chunk({ choices: [{ delta: {}, finish_reason: "stop" }] });
      current.end("data: [DONE]\n\n");
      current = null;
    },
    forgets: () => (current = null),
    /** Refuses all further requests. */
    refuses: () => (breaks = true),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * Holds the responses to sent messages, and from the first of them on those to `held` methods, until
 * the returned function is called: the page learns of their turns from the stream first.
 */
async function holdReplies(page, held = []) {
  let release;
  let isSent = false;
  const released = new Promise((resolve) => (release = resolve));
  await page.route(/\/messages(\?|$)/, async (route) => {
    const method = route.request().method();
    isSent ||= method === "POST";
    if (method !== "POST" && !(isSent && held.includes(method))) return route.continue();
    const response = await route.fetch();
    await released;
    return route.fulfill({ response });
  });
  return release;
}

export const scenarios = {
  "an administrator tries the white-label agent as a company's staff, and the answer names its source": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.goto("#/try");
    await page.getByRole("button", { name: "Client’s staff" }).click();
    await pick(page, "Agent", "service", "Service desk");
    await pick(page, "Company", "conto", "Contoso");
    await visitor.inspect(page, "try");
    await page.getByRole("button", { name: "Start chat" }).click();
    await page.getByText("pinned to Contoso").waitFor();
    await page.getByRole("button", { name: "How do I connect to the VPN?" }).click();
    await completeAnswer(page).waitFor();
    await answers(page).last().getByText("Company Portal").first().waitFor();
    const source = answers(page).last().getByRole("link", { name: "Connect to the VPN" });
    assert.equal(await source.getAttribute("href"), "https://help.northwind-it.example/vpn");
    assert.equal(await source.getAttribute("rel"), "noopener noreferrer");
    await visitor.inspect(page, "try-answer");
    const [session] = (await visitor.call("GET", "/chat/sessions")).data;
    assert.deepEqual([session.agent_id, session.end_company_id, session.resolution.rule], [101, "1001", "selected"]);
    const [event] = (await visitor.call("GET", "/audit-events?action=session.create_as_company")).data;
    assert.deepEqual([event.target, event.actor.id], [session.id, "local:ADMIN"]);
  },

  "two browsers show an answer while it is written; it can be stopped and asked for again": async (visitor) => {
    const { home } = visitor;
    const model = await startModel();
    const demo = await startDemo(home.binary, 120_000, model.flags);
    try {
      const one = await home.visitor({ demo });
      const other = await home.visitor({ demo });
      await one.signIn();
      const field = await tryAsTechnician(one.page);
      await one.page.getByRole("link", { name: "Open in Sessions" }).waitFor();
      const hash = await one.page.getByRole("link", { name: "Open in Sessions" }).getAttribute("href");
      await other.signIn();
      await other.page.goto(hash);
      await field.fill("Tell me");
      await field.press("Enter");
      await model.isAsked();
      for (const [part, shown] of [["First ", "First"], ["**second**", "First second"], [" third", "First second third"]]) {
        model.sends(part);
        for (const { page } of [one, other]) await answers(page).getByText(shown, { exact: true }).waitFor();
      }
      await one.inspect(one.page, "try-running");
      assert.equal(await other.page.getByText("Tell me", { exact: true }).last().isVisible(), true);
      await one.page.getByRole("button", { name: "Stop" }).click();
      for (const { page } of [one, other]) await answers(page).getByText("Stopped").waitFor();
      model.forgets();
      await answers(one.page).getByRole("button", { name: "Ask again" }).click();
      await model.isAsked();
      model.sends("A whole answer.");
      model.ends();
      for (const { page } of [one, other]) {
        await answers(page).nth(1).getByText("A whole answer.").waitFor();
        await completeAnswer(page).waitFor();
      }
      await other.page.reload();
      await answers(other.page).nth(1).getByText("A whole answer.").waitFor();
      assert.equal(await answers(other.page).count(), 2);
      await one.assertNoErrors();
      await other.assertNoErrors();
    } finally {
      await model.stop();
      await demo.stop();
    }
  },

  "a question whose answer has started is not shown as queued": async (visitor) => {
    const { home } = visitor;
    const model = await startModel();
    const demo = await startDemo(home.binary, 120_000, model.flags);
    try {
      const person = await home.visitor({ demo });
      const { page } = person;
      await person.signIn();
      const field = await tryAsTechnician(page);
      const release = await holdReplies(page);
      // The server publishes the start of an answer before it stores that the turn is running.
      await page.route("**/turns/*", async (route) => {
        const response = await route.fetch();
        const body = await response.json();
        return route.fulfill({ response, json: { ...body, data: { ...body.data, status: "QUEUED" } } });
      });
      const turn = page.waitForResponse((response) => response.url().includes("/turns/"));
      await field.fill("Tell me");
      await field.press("Enter");
      await model.isAsked();
      await (await turn).finished();
      release();
      model.sends("A whole answer.");
      model.ends();
      await completeAnswer(page).waitFor();
      await page.locator(".composer button[type=submit]:not([aria-disabled])").waitFor();
      assert.equal(await page.locator(".message.user .ending").count(), 0);
      await person.assertNoErrors();
    } finally {
      await model.stop();
      await demo.stop();
    }
  },

  "no first question of a chat stays queued under its answer": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    for (let chat = 0; chat < 12; chat += 1) {
      await page.goto("#/overview");
      const field = await tryAsTechnician(page);
      await field.fill("How do I connect to the VPN?");
      await field.press("Enter");
      await completeAnswer(page).waitFor();
      await page.locator(".composer button[type=submit]:not([aria-disabled])").waitFor();
      assert.equal(await page.locator(".messages .ending").count(), 0, `chat ${chat}`);
    }
  },

  "a failed turn is told once, live and after a reload": async (visitor) => {
    const { home } = visitor;
    const model = await startModel();
    model.refuses();
    const demo = await startDemo(home.binary, 120_000, model.flags);
    try {
      const person = await home.visitor({ demo });
      const { page } = person;
      await person.signIn();
      const field = await tryAsTechnician(page);
      const release = await holdReplies(page, ["GET"]);
      await field.fill("Tell me");
      await field.press("Enter");
      const told = page.locator(".ending.bad > span").first();
      await told.waitFor();
      release();
      const text = await told.innerText();
      const isToldOnce = async () => {
        await page.locator(".composer button[type=submit]:not([aria-disabled])").waitFor();
        assert.equal(await page.getByText(text).count(), 1);
        assert.equal(await page.getByRole("button", { name: "Ask again" }).count(), 1);
      };
      await isToldOnce();
      assert.equal(await page.locator(".ending").getAttribute("role"), "alert");
      await page.getByRole("link", { name: "Open in Sessions" }).click();
      const stream = page.waitForResponse((response) => response.url().includes("/events"));
      await page.reload();
      await told.waitFor();
      await stream;
      await isToldOnce();
      await person.assertNoErrors();
    } finally {
      await model.stop();
      await demo.stop();
    }
  },

  "a reload of Try it continues the chat and its running answer": async (visitor) => {
    const { home } = visitor;
    const model = await startModel();
    const demo = await startDemo(home.binary, 120_000, model.flags);
    try {
      const person = await home.visitor({ demo });
      const { page } = person;
      await person.signIn();
      const field = await tryAsTechnician(page);
      await field.fill("Tell me");
      await field.press("Enter");
      await model.isAsked();
      model.sends("First ");
      await answers(page).getByText("First", { exact: true }).waitFor();
      const session = (await page.getByRole("link", { name: "Open in Sessions" }).getAttribute("href")).replace("#/sessions/", "");
      assert.equal(new URL(page.url()).hash, `#/try?as=technician&session=${session}`);
      await page.reload();
      await answers(page).getByText("First", { exact: true }).waitFor();
      assert.equal(await page.locator(".message.user .plain").innerText(), "Tell me");
      await page.getByRole("button", { name: "Stop" }).waitFor();
      model.sends("second");
      model.ends();
      await answers(page).getByText("First second", { exact: true }).waitFor();
      await completeAnswer(page).waitFor();
      await page.getByRole("textbox", { name: "Message" }).fill("And then?");
      await page.keyboard.press("Enter");
      await model.isAsked();
      model.sends("Nothing more.");
      model.ends();
      await answers(page).nth(1).getByText("Nothing more.").waitFor();
      const { data } = await person.call("GET", `/chat/sessions/${session}/messages`);
      assert.deepEqual(data.map(({ content }) => content), ["Tell me", "First second", "And then?", "Nothing more."]);
      await person.assertNoErrors();
    } finally {
      await model.stop();
      await demo.stop();
    }
  },

  "on a phone, the settings of Try it fold away when the chat starts": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    await page.setViewportSize({ width: 360, height: 740 });
    const field = await tryAsTechnician(page);
    await field.waitFor();
    assert.equal(await page.getByRole("combobox", { name: "Agent" }).isVisible(), false);
    await field.fill("How do I connect to the VPN?");
    await field.press("Enter");
    await completeAnswer(page).waitFor();
    // The middle of what is visible of the answer belongs to the answer: nothing lies above it.
    const isOnTop = await answers(page).last().evaluate((answer) => {
      const { left, width, top, bottom } = answer.getBoundingClientRect();
      const { top: end } = document.querySelector(".composer").getBoundingClientRect();
      const middle = (Math.max(top, 60) + Math.min(bottom, end)) / 2;
      return answer.contains(document.elementFromPoint(left + width / 2, middle));
    });
    assert.ok(isOnTop);
    await visitor.inspect(page, "try-phone");
    const fold = page.getByRole("button", { name: "Settings" });
    assert.equal(await fold.getAttribute("aria-expanded"), "false");
    await fold.click();
    await page.getByRole("combobox", { name: "Agent" }).waitFor();
    assert.equal(await fold.getAttribute("aria-expanded"), "true");
  },

  "the relay's routing decision is shown with its rule, and so is a refusal": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/status of (404|409).*\/resolve/);
    await visitor.signIn();
    await page.goto("#/try");
    await page.getByRole("button", { name: "Relay" }).click();
    await page.getByLabel("Bot").fill(BOT);
    await page.getByLabel("M365 tenant").fill(CONTOSO);
    await page.getByRole("button", { name: "Show who would answer" }).click();
    await page.getByText("white_label_install").waitFor();
    await page.getByText("pinned to Contoso").waitFor();
    await visitor.inspect(page, "try-relay");
    const unlinked = "57a46e40-0000-4000-8000-000000000002";
    const channel = (await visitor.call("GET", "/channels?q=Client")).data[0].id;
    await visitor.call("POST", `/channels/${channel}/installs`, { body: { end_client_tenant_id: unlinked } });
    await page.getByLabel("M365 tenant").fill(unlinked);
    await page.getByRole("button", { name: "Show who would answer" }).click();
    await page.getByText("No agent would answer.").waitFor();
    await page.getByLabel("M365 tenant").fill("0bad0000-0000-4000-8000-000000000000");
    await page.getByRole("button", { name: "Show who would answer" }).click();
    await page.getByText("You cannot ask about this M365 tenant.").waitFor();
  },

  "a message has files, a file whose content does not match its type is refused, and the files can be read": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/status of 400.*\/chat\/attachments/);
    await visitor.signIn();
    const field = await tryAsTechnician(page);
    await page.getByLabel("Files to attach").setInputFiles([
      { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("as it was") },
      { name: "dot.png", mimeType: "image/png", buffer: PNG },
      { name: "fake.png", mimeType: "image/png", buffer: Buffer.from("no picture") },
    ]);
    await page.getByText("fake.png was not attached.").waitFor();
    await field.fill("See these");
    await page.getByRole("button", { name: "Send" }).click();
    await completeAnswer(page).waitFor();
    await page.getByRole("link", { name: "Open in Sessions" }).click();
    const picture = page.getByRole("img", { name: "dot.png" });
    await picture.waitFor();
    await page.waitForFunction((shown) => shown.complete && shown.naturalWidth === 1, await picture.elementHandle());
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "notes.txt" }).click();
    assert.equal(await readFile(await (await download).path(), "utf8"), "as it was");
  },

  "a session is found, explained, exported, archived and deleted": async (visitor) => {
    const { page } = visitor;
    const { data: session } = await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: { agent_id: 101, bot_id: BOT, inbound_tenant_id: CONTOSO, title: "Kestrel of Contoso" } });
    const { data: sent } = await visitor.call("POST", `/chat/sessions/${session.id}/messages`, { key: RELAY_KEY, body: { message: "How do I connect to the VPN?", author: { id: "1", name: "Mia Keller" } } });
    await visitor.call("GET", `/chat/sessions/${session.id}/turns/${sent.chat_turn_id}?wait_seconds=20`, { key: RELAY_KEY });
    await visitor.signIn();
    await page.goto("#/sessions");
    await page.getByRole("searchbox", { name: "Search titles" }).fill("kestrel");
    await page.getByRole("cell", { name: "Kestrel of Contoso" }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
    await visitor.inspect(page, "sessions");
    await page.getByRole("link", { name: "Kestrel of Contoso" }).click();
    await page.getByText("The bot of Client help bot is installed for the M365 tenant").waitFor();
    await answers(page).first().waitFor();
    await page.getByRole("list", { name: "Conversation" }).getByText("Mia Keller").waitFor();
    await visitor.inspect(page, "session");
    for (const [kind, holds] of [["Markdown", /## Question by Mia Keller, .*\n\n> How do I connect/], ["JSON", /"resolution": \{/]]) {
      await page.getByRole("button", { name: "Export" }).click();
      const download = page.waitForEvent("download");
      await page.getByRole("dialog").getByRole("button", { name: kind }).click();
      assert.match(await readFile(await (await download).path(), "utf8"), holds);
    }
    await page.getByRole("button", { name: "Archive" }).click();
    await page.getByRole("button", { name: "Reopen" }).waitFor();
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete session" }).click();
    await page.getByText("The session was deleted.").waitFor();
    assert.equal((await visitor.call("GET", `/chat/sessions/${session.id}`)).status, 404);
  },

  "an answer is given again, and the earlier one is kept": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    const field = await tryAsTechnician(page);
    await field.fill("Who is on call for a priority 1?");
    await field.press("Enter");
    await completeAnswer(page).click();
    await page.locator("button[aria-pressed=true][aria-label='Good answer']").waitFor();
    await page.getByRole("button", { name: "Answer again" }).click();
    const earlier = page.getByRole("button", { name: "1 earlier answer" });
    await earlier.waitFor();
    assert.equal(await answers(page).count(), 1);
    assert.equal(await answers(page).locator("button[aria-pressed=true]").count(), 0);
    await earlier.click();
    await page.getByRole("dialog").getByText("Rated good").waitFor();
    await visitor.inspect(page, "earlier answers");
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
    await page.getByRole("link", { name: "Open in Sessions" }).click();
    await page.getByRole("button", { name: "1 earlier answer" }).waitFor();
    assert.equal(await answers(page).count(), 1);
  },

  "an answer is rated, and the rating is stored": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    const field = await tryAsTechnician(page);
    await field.fill("Who is on call for a priority 1?");
    await field.press("Enter");
    const good = answers(page).last().getByRole("button", { name: "Good answer" });
    await good.click();
    await page.locator("button[aria-pressed=true][aria-label='Good answer']").waitFor();
    await answers(page).last().getByRole("button", { name: "Comment" }).click();
    await page.getByRole("dialog").getByLabel("Comment").fill("Just right");
    await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
    await page.getByText("Just right").waitFor();
    await page.getByRole("link", { name: "Open in Sessions" }).click();
    await page.getByText("Just right").waitFor();
  },
};
