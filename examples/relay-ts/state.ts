/** What the relay remembers: a file that a change is appended to, read and rewritten at the start. */

import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Activity } from "botbuilder";

const FILE = process.env["RELAY_STATE"] || "relay.jsonl";
const REMEMBERED_MS = 3_600_000;

/** The session of a conversation; or an activity that waits, or was answered and is remembered. */
export type Value = { session?: string; at: number; activity?: Activity };

export const state = new Map<string, Value>();

const line = (...entry: [string, Value]) => `${JSON.stringify(entry)}\n`;

export function keep(key: string, value: Omit<Value, "at">) {
  state.set(key, { ...value, at: Date.now() });
  appendFileSync(FILE, line(key, state.get(key)!));
  if (!value.session && !value.activity) setTimeout(() => state.delete(key), REMEMBERED_MS).unref();
}

// A crash may have cut the last line short: what follows the last line end is left out.
const lines = existsSync(FILE) ? readFileSync(FILE, "utf8").split("\n").slice(0, -1) : [];
for (const [key, value] of lines.map((each) => JSON.parse(each) as [string, Value]))
  if (value.session || value.at > Date.now() - REMEMBERED_MS) state.set(key, value);
writeFileSync(`${FILE}.new`, [...state].map((entry) => line(...entry)).join(""));
renameSync(`${FILE}.new`, FILE);
