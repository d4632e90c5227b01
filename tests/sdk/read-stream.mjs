//! Reads the answers of a running server with the reader, the transport and the chat of the AI SDK.

import assert from "node:assert/strict";
import {
  AbstractChat,
  DefaultChatTransport,
  parseJsonEventStream,
  readUIMessageStream,
  safeValidateUIMessages,
  uiMessageChunkSchema,
} from "ai";
import { namedBinary, run, startDemo } from "../demo-server.mjs";

const KEY = "neo_sk_demo_northwind00000000";
const TECHNICIAN = 102;
const QUESTION = "How do I connect to the VPN?";
/** The time limit of all tests. Only a hanging server reaches it. */
const LIMIT_MILLISECONDS = 50_000;

const server = await startDemo(namedBinary(), LIMIT_MILLISECONDS);
const base = `${server.url}/public-api`;
const headers = { authorization: `Bearer ${KEY}` };

async function call(method, path, body) {
  const reply = await fetch(base + path, {
    method,
    headers: { ...headers, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(reply.ok, `${method} ${path}: ${reply.status}`);
  return (await reply.json()).data;
}

async function session() {
  return (await call("POST", "/chat/sessions", { agent_id: TECHNICIAN })).id;
}

function send(id, message) {
  return call("POST", `/chat/sessions/${id}/messages`, { message });
}

function list(id) {
  return call("GET", `/chat/sessions/${id}/messages`);
}

function eventsUrl(id, since) {
  return `${base}/chat/sessions/${id}/events${since === undefined ? "" : `?since=${since}`}`;
}

async function openEvents(id, since) {
  const reply = await fetch(eventsUrl(id, since), { headers });
  assert.equal(reply.status, 200);
  return reply;
}

/** The chunks of a body, each validated with the schema of the SDK. */
async function chunksOf(body) {
  const chunks = [];
  for await (const parsed of parseJsonEventStream({ stream: body, schema: uiMessageChunkSchema })) {
    assert.ok(parsed.success, String(parsed.error));
    chunks.push(parsed.value);
  }
  return chunks;
}

/** The message that the reader of the SDK builds from these chunks. */
async function messageOf(chunks) {
  let message;
  const reader = readUIMessageStream({
    stream: ReadableStream.from(chunks),
    terminateOnError: true,
    onError: (error) => {
      throw error;
    },
  });
  for await (const state of reader) message = state;
  return message;
}

function textOf(message) {
  return message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** Asserts that a message of the SDK equals the message in the list. */
function isStored(message, stored) {
  assert.equal(message.role, "assistant");
  assert.equal(message.id, stored.id);
  assert.equal(textOf(message), stored.content);
  assert.ok(stored.content.length > 0);
  assert.equal(message.metadata.chat_turn_id, stored.chat_turn_id);
  const sources = (parts) =>
    parts
      .filter((part) => part.type.startsWith("source-"))
      .map((part) => Object.fromEntries(Object.entries(part).filter(([, value]) => value !== undefined)));
  assert.deepEqual(sources(message.parts), sources(stored.parts));
}

async function answerOf(id, turn) {
  const items = await list(id);
  const stored = items.filter((item) => item.role === "assistant" && item.chat_turn_id === turn);
  assert.equal(stored.length, 1);
  return stored[0];
}

/** A chat that keeps its state in plain fields. */
class Chat extends AbstractChat {
  constructor(init) {
    const state = {
      status: "ready",
      error: undefined,
      messages: init.messages ?? [],
      pushMessage: (message) => void state.messages.push(message),
      popMessage: () => void state.messages.pop(),
      replaceMessage: (index, message) => void (state.messages[index] = message),
      snapshot: (value) => structuredClone(value),
    };
    super({ ...init, state });
  }
}

/**
 * The SDK sends one POST and reads its response as a stream. This transport appends a message and
 * returns the stream of its turn.
 */
function transport(id) {
  return new DefaultChatTransport({
    api: `${base}/chat/sessions/${id}/messages`,
    headers,
    prepareSendMessagesRequest: ({ messages }) => {
      const last = messages.at(-1);
      return { body: { message: textOf(last), client_message_id: last.id }, headers };
    },
    prepareReconnectToStreamRequest: () => ({ api: `${eventsUrl(id)}?resume=true`, headers }),
    fetch: async (url, init) => {
      const reply = await fetch(url, init);
      if (reply.status !== 202) return reply;
      const { data } = await reply.json();
      return fetch(eventsUrl(id, data.since_cursor), { headers, signal: init.signal });
    },
  });
}

const tests = {
  "the SDK's reader builds the message that the list has": async () => {
    const id = await session();
    const turn = await send(id, QUESTION);
    const reply = await openEvents(id, turn.since_cursor);
    assert.equal(reply.headers.get("x-vercel-ai-ui-message-stream"), "v1");
    const message = await messageOf(await chunksOf(reply.body));
    isStored(message, await answerOf(id, turn.chat_turn_id));
  },

  "a stream that was cut after any event resumes at its cursor": async () => {
    const id = await session();
    const turn = await send(id, QUESTION);
    const whole = await (await openEvents(id, turn.since_cursor)).text();
    const events = whole.split("\n\n").filter((event) => event.startsWith("id: "));
    assert.ok(events.length >= 6);
    const stored = await answerOf(id, turn.chat_turn_id);
    for (let cut = 1; cut < events.length; cut += 1) {
      const before = new Blob([`${events.slice(0, cut).join("\n\n")}\n\n`]).stream();
      const cursor = /^id: (\S+)/.exec(events[cut - 1])[1];
      const rest = await openEvents(id, cursor);
      const chunks = [...(await chunksOf(before)), ...(await chunksOf(rest.body))];
      isStored(await messageOf(chunks), stored);
    }
  },

  "a stream whose connection is dropped during the answer resumes at the last cursor": async () => {
    const id = await session();
    const turn = await send(id, QUESTION);
    const dropped = new AbortController();
    const reply = await fetch(eventsUrl(id, turn.since_cursor), { headers, signal: dropped.signal });
    const decoder = new TextDecoder();
    let text = "";
    for await (const bytes of reply.body) {
      text += decoder.decode(bytes, { stream: true });
      if (text.includes("\n\n")) break;
    }
    dropped.abort();
    // The reader need not have read more than one event.
    const first = text.slice(0, text.indexOf("\n\n") + 2);
    const cursor = /^id: (\S+)/.exec(first)[1];
    const rest = await openEvents(id, cursor);
    const chunks = [...(await chunksOf(new Blob([first]).stream())), ...(await chunksOf(rest.body))];
    isStored(await messageOf(chunks), await answerOf(id, turn.chat_turn_id));
  },

  "a chat with the SDK's transport has a conversation": async () => {
    const id = await session();
    const failures = [];
    const chat = new Chat({ id, transport: transport(id), onError: (error) => failures.push(error) });
    for (const [at, text] of [QUESTION, "Thank you"].entries()) {
      await chat.sendMessage({ text });
      assert.deepEqual(failures, []);
      assert.equal(chat.status, "ready");
      assert.equal(chat.messages.length, 2 * at + 2);
      const answer = chat.messages.at(-1);
      isStored(answer, await answerOf(id, answer.metadata.chat_turn_id));
    }
    const stored = await list(id);
    assert.deepEqual(stored.map((item) => item.content), chat.messages.map(textOf));
  },

  "a chat with nothing to resume does not change": async () => {
    const id = await session();
    const failures = [];
    const chat = new Chat({ id, transport: transport(id), onError: (error) => failures.push(error) });
    await chat.resumeStream();
    await chat.sendMessage({ text: "Hello" });
    const before = structuredClone(chat.messages);
    await chat.resumeStream();
    assert.deepEqual(failures, []);
    assert.equal(chat.status, "ready");
    assert.deepEqual(chat.messages, before);
  },

  "listed messages are valid messages of the SDK": async () => {
    const id = await session();
    const turn = await send(id, QUESTION);
    await chunksOf((await openEvents(id, turn.since_cursor)).body);
    const messages = (await list(id)).map(({ id, role, parts }) => ({ id, role, parts }));
    const valid = await safeValidateUIMessages({ messages });
    assert.ok(valid.success, String(valid.error));
    assert.equal(valid.data.length, 2);
  },
};

await server.end((await run(tests)) === 0 ? 0 : 1);
