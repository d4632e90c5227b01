//! Lints docs/openapi.json, generates TypeScript types from the OpenAPI document of a running
//! server, type-checks a client that uses them, and runs the client.

import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { namedBinary, startDemo } from "../demo-server.mjs";

const KEY = "neo_sk_demo_northwind00000000";
/** The time limit of each program. Only a hanging program reaches it. */
const LIMIT_MILLISECONDS = 120_000;

const here = dirname(fileURLToPath(import.meta.url));
const server = await startDemo(namedBinary(), 3 * LIMIT_MILLISECONDS);

/** Runs a Node.js program. */
async function run(...command) {
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: here, timeout: LIMIT_MILLISECONDS });
  process.stdout.write(stdout);
}

/** Redocly's own exit code ignores warnings. */
async function lintWithRedocly(document) {
  const command = ["node_modules/@redocly/cli/bin/cli.js", "lint", "--extends", "recommended", "--format", "json", document];
  const env = { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" };
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: here, env, timeout: LIMIT_MILLISECONDS });
  const { totals, problems } = JSON.parse(stdout);
  if (totals.errors + totals.warnings > 0) throw new Error(JSON.stringify(problems, null, 2));
  console.log("redocly: no error, no warning");
}

let failed = 0;
try {
  const document = join(here, "../../docs/openapi.json");
  await run("node_modules/@stoplight/spectral-cli/dist/index.js", "lint", "--fail-severity", "hint", "--ruleset", "spectral.yaml", document);
  await lintWithRedocly(document);
  await mkdir(join(here, "made"), { recursive: true });
  await run("node_modules/openapi-typescript/bin/cli.js", `${server.url}/public-api/openapi.json`, "--output", "made/api.ts");
  await run("node_modules/typescript/bin/tsc", "--project", "tsconfig.json");
  await run("made/run/converse.js", server.url, KEY);
} catch (error) {
  failed = 1;
  console.error(error.stdout ?? "", error.stderr ?? error);
}
await server.end(failed);
