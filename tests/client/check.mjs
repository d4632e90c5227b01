//! Makes a client's types from the document of a running server, checks a program that uses them, and runs it.

import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const KEY = "neo_sk_demo_northwind00000000";
/** Nothing here takes long; what hangs must fail. */
const LIMIT_MILLISECONDS = 120_000;

const binary = process.argv[2];
if (!binary) {
  console.error("usage: node check.mjs PATH_OF_THE_SWITCHBOARD_BINARY");
  process.exit(2);
}

const here = dirname(fileURLToPath(import.meta.url));
const folder = await mkdtemp(join(tmpdir(), "switchboard-client-"));
const server = spawn(binary, ["demo", "--data", join(folder, "data"), "--listen", "127.0.0.1:0"], {
  stdio: ["ignore", "ignore", "pipe"],
});
const stopped = new Promise((resolve) => server.once("close", resolve));

/** The server says on stderr where it listens. */
function listening() {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("exit", () => reject(new Error("the server ended before it listened")));
    createInterface({ input: server.stderr }).on("line", (line) => {
      const found = /listening on (http:\/\/\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
  });
}

/** Runs a program of node's to its end. */
async function run(...command) {
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: here, timeout: LIMIT_MILLISECONDS });
  process.stdout.write(stdout);
}

let failed = 0;
try {
  const url = await listening();
  await mkdir(join(here, "made"), { recursive: true });
  await run("node_modules/openapi-typescript/bin/cli.js", `${url}/public-api/openapi.json`, "--output", "made/api.ts");
  await run("node_modules/typescript/bin/tsc", "--project", "tsconfig.json");
  await run("made/run/converse.js", url, KEY);
} catch (error) {
  failed = 1;
  console.error(error.stdout ?? "", error.stderr ?? error);
}
if (server.exitCode === null) server.kill("SIGKILL");
await stopped;
await rm(folder, { recursive: true, force: true });
process.exit(failed);
