//! Tests of the dashboard in a real browser, against a demo server:
//! `node dashboard.mjs BINARY [--screenshots DIR] [--only WORDS]`.

import { parseArgs } from "node:util";
import { namedBinary, run, startDemo } from "../demo-server.mjs";
import * as chatting from "./chatting.mjs";
import { openBrowser } from "./harness.mjs";
import * as managing from "./managing.mjs";
import * as fixing from "./fixing.mjs";
import * as misuse from "./misuse.mjs";
import * as packaging from "./packaging.mjs";
import * as reading from "./reading.mjs";
import * as signingIn from "./signing-in.mjs";
import * as views from "./views.mjs";

/** The time limit of all scenarios. Each wait within a scenario has a shorter timeout. */
const LIMIT_MILLISECONDS = 600_000;

const binary = namedBinary();
const { values } = parseArgs({ allowPositionals: true, options: { screenshots: { type: "string" }, only: { type: "string", default: "" } } });

const demo = await startDemo(binary, LIMIT_MILLISECONDS);
const browser = await openBrowser(binary, demo, values.screenshots);
const tests = [signingIn, fixing, chatting, managing, packaging, views, reading, misuse]
  .flatMap(({ scenarios }) => Object.entries(scenarios))
  .filter(([name]) => name.includes(values.only))
  .map(([name, scenario]) => [name, browser.test(scenario)]);
const failed = await run(Object.fromEntries(tests));
await browser.close();
await demo.end(failed === 0 && tests.length > 0 ? 0 : 1);
