/**
 * A relay between a Microsoft Teams bot and Switchboard, with Microsoft's botbuilder package.
 * docs/relay.md explains what it does, and its settings, which are environment variables.
 */

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Activity } from "botbuilder";
import { APP_ID, fail, post, serve } from "./bot-framework.js";
import { keep, state } from "./state.js";

const { SWITCHBOARD_URL = "http://127.0.0.1:8080", SWITCHBOARD_KEY = "", SWITCHBOARD_MSP: MSP } = process.env;
const SWITCHBOARD = `${SWITCHBOARD_URL}/public-api`;
// The messages of these refusals are written for the person in the chat.
const SHOWN = ["end_company_not_mapped", "channel_disconnected", "stranger"];
// After one of these, a new session may be routed to where the old one no longer goes.
const RENEWED = [...SHOWN, "session_archived", "not_found", "agent_disabled"];
const SORRY = "I cannot answer right now. Please send your message again in a few minutes.";
const LONGEST_ANSWER_MS = 600_000;

class Refused extends Error {
  constructor(readonly code: string, readonly text: string, readonly details?: { session_id?: string }) {
    super(`${code}: ${text}`);
  }
}
type Session = { id: string; resolution: { rule: string } };
type Turn = { chat_turn_id: string; since_cursor: string };

let ownTenant: string | undefined;
const digest = (...parts: unknown[]) => createHash("sha256").update(JSON.stringify(parts)).digest("hex");

function request(method: string, path: string, body?: object, more: Record<string, string> = {}) {
  const headers = { Authorization: `Bearer ${SWITCHBOARD_KEY}`, "Content-Type": "application/json", ...more };
  // Without a limit, fetch never returns if a server accepts a connection and closes it at once.
  const signal = AbortSignal.timeout(path.includes("/events") ? LONGEST_ANSWER_MS : 10_000);
  return fetch(SWITCHBOARD + path, { method, headers, body: body && JSON.stringify(body), signal });
}

async function switchboard<T>(...call: Parameters<typeof request>): Promise<T> {
  const { data, error } = (await (await request(...call)).json()) as { data: T; error?: any };
  if (error?.code === "duplicate_client_message") return error.details; // An earlier try got these in its reply.
  if (error) throw new Refused(error.code, error.message, error.details);
  return data;
}

/** Starts a session for a conversation. The same reason, tried again, gets the same session. */
async function create(tenant: string, conversation: string, reason: string): Promise<string> {
  const own = tenant === ownTenant ? { client_id: MSP } : {}; // Nobody else may reach the MSP's internal agents.
  const body = { managed_agent_key: "NEO_SUPPORT", bot_id: APP_ID, inbound_tenant_id: tenant, ...own };
  const once = { "Idempotency-Key": digest(conversation, reason, body) };
  const session = await switchboard<Session>("POST", "/chat/sessions", body, once).catch((refusal) => {
    if (refusal.code === "session_archived") return refusal.details.session_id as string;
    throw refusal;
  });
  if (typeof session === "string") return create(tenant, conversation, session); // It was archived since.
  if (session.resolution.rule === "neo_support" && tenant !== ownTenant)
    throw new Refused("stranger", "This bot is not set up for your organization.");
  keep(conversation, { session: session.id });
  return session.id;
}

/** Reads a turn's events until it ends: its text, and the sentence that says why it failed. */
async function read(session: string, turn: Turn) {
  const reply = await request("GET", `/chat/sessions/${session}/events?since=${turn.since_cursor}`);
  let [text, rest] = ["", ""];
  for await (const piece of reply.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop()!;
    for (const line of lines.filter((each) => each.startsWith("data: {"))) {
      const event = JSON.parse(line.slice("data: ".length));
      if (event.type === "start") text = ""; // An answer may start again.
      if (event.type === "text-delta") text += event.delta;
      if (event.type === "error") text += `\n\n${event.errorText}`;
      if (["finish", "abort", "error"].includes(event.type)) return text.trim();
    }
  }
  throw new Error("the stream broke off");
}

/** The answer to a message. Each step, when it is repeated, finds what it did before. */
async function ask(activity: Activity, tenant: string, conversation: string) {
  const text = (activity.text ?? "").replace(/<at>.*?<\/at>/g, "").trim();
  if (!text) return "I can read text only.";
  let session = state.get(conversation)?.session ?? (await create(tenant, conversation, "first message"));
  if (text === "/reset") {
    if (session !== (await create(tenant, conversation, activity.id!)))
      await switchboard("POST", `/chat/sessions/${session}/reset`);
    return "We start again. What can I do for you?";
  }
  const message = { message: text, client_message_id: digest(activity.id) };
  const append = () => switchboard<Turn>("POST", `/chat/sessions/${session}/messages`, message);
  const turn = await append().catch(async (refusal) => {
    if (!RENEWED.includes(refusal.code)) throw refusal;
    session = await create(tenant, conversation, session);
    return append();
  });
  return read(session, turn);
}

/** The M365 tenant of an activity, and an id of the conversation that no other tenant has. */
function place({ channelData, conversation }: Activity) {
  const tenant: string = (channelData?.tenant?.id ?? conversation.tenantId).toLowerCase();
  return [tenant, digest(tenant, conversation.id)] as const;
}

async function replyTo(activity: Activity) {
  const [tenant, conversation] = place(activity);
  if (activity.type === "message") return ask(activity, tenant, conversation);
  const event = { bot_id: APP_ID, end_client_tenant_id: tenant };
  return (await switchboard<{ welcome_message: string }>("POST", "/channels/install-events", event)).welcome_message;
}

/** Answers an activity of the inbox. A failure is met by beginning again, and at last told. */
async function work(once: string, activity: Activity) {
  for (const pause of [1, 2, 4, 0])
    try {
      const shown = (refusal: Refused) => (SHOWN.includes(refusal.code) ? refusal.text : Promise.reject(refusal));
      const text = pause ? await replyTo(activity).catch(shown) : SORRY;
      if (text) await post(activity, text);
      return keep(once, {});
    } catch (failure) {
      console.error(`relay: ${activity.type} ${once.slice(0, 8)}: ${failure}`);
      await sleep(pause * 1000);
    }
}

/** Takes an activity into the inbox once. It is answered then, after a crash as well. */
function receive(activity: Activity) {
  const added = activity.membersAdded?.some((member) => member.id === activity.recipient.id);
  const installed = added || activity.action === "add";
  if (activity.type !== "message" && !installed) return;
  // Teams reports one install by two activities.
  const once = digest(place(activity)[1], installed ? "installed" : activity.id);
  if (state.has(once)) return;
  keep(once, { activity });
  void work(once, activity);
}

try {
  const caller = await switchboard<{ client_id: string; platform: boolean }>("GET", "/whoami");
  if (!caller.platform) throw new Error(`the key of ${caller.client_id} is not a platform key`);
  if (MSP) ownTenant = (await switchboard<{ entra_tenant_id: string }>("GET", `/tenants/${MSP}`)).entra_tenant_id;
} catch (failure: any) {
  fail(`${SWITCHBOARD}: ${failure.cause ?? failure.message}`);
}
for (const [once, { activity }] of state) if (activity) void work(once, activity);
serve(receive);
