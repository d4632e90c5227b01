//! Shared by the test programs in JavaScript: a demo server, and a runner of tests.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";

/** The path of the binary under test, from the command line. */
export function namedBinary() {
  const binary = process.argv[2];
  if (!binary) {
    console.error(`usage: node ${basename(process.argv[1])} PATH_OF_THE_SWITCHBOARD_BINARY`);
    process.exit(2);
  }
  return binary;
}

/**
 * Starts a demo server on a free port, with a new folder. Returns its `url`, the sign-in `link`
 * that it prints, its `data` folder, `stop()`, which stops the server and removes the folder, and
 * `end(code)`, which also exits. A run that takes longer than the limit fails.
 */
export async function startDemo(binary, limitMilliseconds, flags = []) {
  const folder = await mkdtemp(join(tmpdir(), "switchboard-test-"));
  const data = join(folder, "data");
  const server = spawn(binary, ["demo", "--data", data, "--listen", "127.0.0.1:0", ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stopped = new Promise((resolve) => server.once("close", resolve));
  process.once("exit", () => server.kill("SIGKILL"));

  const limit = setTimeout(() => {
    console.error("the run exceeded its time limit");
    void end(1);
  }, limitMilliseconds);

  async function stop() {
    clearTimeout(limit);
    if (server.exitCode === null) server.kill("SIGKILL");
    await stopped;
    await rm(folder, { recursive: true, force: true });
  }

  async function end(code) {
    await stop();
    process.exit(code);
  }

  function lineOf(output, pattern) {
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.once("exit", () => reject(new Error("the server exited before it listened")));
      // The output is read to the end, so that the server never blocks on a full pipe.
      createInterface({ input: output }).on("line", (line) => {
        const found = pattern.exec(line);
        if (found) resolve(found[0]);
      });
    });
  }

  try {
    const [link, url] = await Promise.all([
      lineOf(server.stdout, /https?:\S+#code=\S+/),
      lineOf(server.stderr, /(?<=listening on )http:\S+/),
    ]);
    return { url, link, data, stop, end };
  } catch (error) {
    console.error(error);
    return end(1);
  }
}

/** Runs named tests one after another. Returns the number of failed tests. */
export async function run(tests) {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      console.log(`ok: ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED: ${name}\n${error.stack}`);
    }
  }
  console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
  return failed;
}
