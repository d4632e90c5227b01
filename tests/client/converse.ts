//! A client whose paths, fields and responses have the types of the OpenAPI document.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./made/api.js";

type Session = components["schemas"]["Session"];
type Message = components["schemas"]["Message"];

const [baseUrl = "", key = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${key}` } });

/** The body of a success. Throws for an error. */
function bodyOf<T>(reply: { data?: T; error?: components["schemas"]["Error"]; response: Response }): T {
  if (reply.data === undefined) {
    throw new Error(`${reply.response.status} ${reply.error?.error.code}: ${reply.error?.error.message}`);
  }
  return reply.data;
}

const created = bodyOf(
  await client.POST("/public-api/chat/sessions", {
    body: { agent_id: 102, title: "Typed", metadata: { ticket: "4711" } },
    params: { header: { "Idempotency-Key": "typed-1" } },
  }),
);
const session: Session = created.data;
// An absent value is null, and an enumeration is a union of literals.
const company: string | null = session.end_company_id;
assert.equal(company, null);
const rule: "white_label_install" | "bot_channel" | "neo_support" | "selected" = session.resolution.rule;
assert.equal(rule, "selected");
const sessionPath = { session_id: session.id };

const accepted = bodyOf(
  await client.POST("/public-api/chat/sessions/{session_id}/messages", {
    params: { path: sessionPath },
    body: { message: "How do I connect to the VPN?", client_message_id: "m-1", model_tier: "FAST" },
  }),
);

const turn = bodyOf(
  await client.GET("/public-api/chat/sessions/{session_id}/turns/{chat_turn_id}", {
    params: {
      path: { ...sessionPath, chat_turn_id: accepted.data.chat_turn_id },
      query: { wait_seconds: 30 },
    },
  }),
);
assert.equal(turn.data.status, "COMPLETED");
assert.equal(turn.data.error, null);
const answer: Message | null = turn.data.assistant_message;
assert.ok(answer !== null && answer.content.length > 0);

// All pages of the list.
const messages: Message[] = [];
let cursor: string | null = null;
do {
  const page: { data: Message[]; meta: components["schemas"]["ListMeta"] } = bodyOf(
    await client.GET("/public-api/chat/sessions/{session_id}/messages", {
      params: { path: sessionPath, query: { page_size: 1, ...(cursor === null ? {} : { cursor }) } },
    }),
  );
  messages.push(...page.data);
  cursor = page.meta.pagination.next_cursor;
} while (cursor !== null);
assert.deepEqual(
  messages.map((message) => [message.role, message.id]),
  [
    ["user", accepted.data.user_message_id],
    ["assistant", answer.id],
  ],
);

const rated = bodyOf(
  await client.PUT("/public-api/chat/sessions/{session_id}/messages/{message_id}/feedback", {
    params: { path: { ...sessionPath, message_id: answer.id } },
    body: { rating: "UP" },
  }),
);
assert.equal(rated.data.feedback?.rating, "UP");

const listed = bodyOf(await client.GET("/public-api/chat/sessions", { params: { query: { agent_id: 102 } } }));
assert.ok(listed.data.some((listedSession) => listedSession.id === session.id && listedSession.message_count === 2));

// An error has the type of its status, with the codes that this call can return.
const again = await client.POST("/public-api/chat/sessions/{session_id}/messages", {
  params: { path: sessionPath },
  body: { message: "Once more", client_message_id: "m-1" },
});
assert.equal(again.response.status, 409);
assert.equal(again.error?.error.code, "duplicate_client_message");
assert.equal(again.error?.error.details?.["chat_turn_id"], accepted.data.chat_turn_id);

const removed = await client.DELETE("/public-api/chat/sessions/{session_id}", { params: { path: sessionPath } });
assert.equal(removed.response.status, 204);
const absent = await client.GET("/public-api/chat/sessions/{session_id}", { params: { path: sessionPath } });
assert.equal(absent.error?.error.code, "not_found");

// A value that the document does not allow does not compile.
type Create = paths["/public-api/chat/sessions"]["post"];
type Body = Create["requestBody"]["content"]["application/json"];
type Missing = Create["responses"][404]["content"]["application/json"]["error"]["code"];
export const named: Missing = "not_found";
// @ts-expect-error An agent id is a number.
export const text: Body = { agent_id: "102" };
// @ts-expect-error There is only one managed agent key.
export const unknown: Body = { managed_agent_key: "OTHER" };
// @ts-expect-error No error has this code.
export const other: Missing = "no_such_code";
// @ts-expect-error A nullable field is required.
export const short: Session["resolution"] = { rule: "selected", decided_at: "" };

console.log("ok: a client with the document's types created, sent, waited, listed, rated, was refused and deleted");
