//! Validates the app packages of a running server with Microsoft's own schema of the manifest, which
//! the package `@microsoft/app-manifest` ships, without a network.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { namedBinary, run, startDemo } from "../demo-server.mjs";

const require = createRequire(import.meta.url);
const { ManifestUtil } = require("@microsoft/app-manifest");
const SCHEMA = require("@microsoft/app-manifest/build/json-schemas/teams/v1.19/MicrosoftTeams.schema.json");

const KEYS = { northwind: "neo_sk_demo_northwind00000000", fabrikam: "neo_sk_demo_fabrikam000000000" };
/** The time limit of all tests. Only a hanging server reaches it. */
const LIMIT_MILLISECONDS = 50_000;

const server = await startDemo(namedBinary(), LIMIT_MILLISECONDS, ["--public-url", "https://chat.example.net"]);

function call(key, method, path, body) {
  return fetch(`${server.url}/public-api${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
}

/** The files of a package, unpacked and checked by another program. */
async function unpacked(key, channel) {
  const reply = await call(key, "GET", `/channels/${channel}/app-package`);
  assert.equal(reply.status, 200);
  const folder = await mkdtemp(join(tmpdir(), "switchboard-package-"));
  try {
    const zip = join(folder, "package.zip");
    await writeFile(zip, Buffer.from(await reply.arrayBuffer()));
    await promisify(execFile)("python3", ["-m", "zipfile", "-t", zip]);
    await promisify(execFile)("python3", ["-m", "zipfile", "-e", zip, join(folder, "files")]);
    const names = (await readdir(join(folder, "files"))).sort();
    const contents = await Promise.all(names.map((name) => readFile(join(folder, "files", name))));
    return Object.fromEntries(names.map((name, index) => [name, contents[index]]));
  } finally {
    await rm(folder, { recursive: true });
  }
}

const problems = (manifest) => ManifestUtil.validateManifestAgainstSchema(manifest, SCHEMA);

/** Fails unless the manifest is as the schema says. */
async function assertValid(key, channel) {
  const files = await unpacked(key, channel);
  assert.deepEqual(Object.keys(files), ["color.png", "manifest.json", "outline.png"]);
  const manifest = JSON.parse(files["manifest.json"]);
  assert.deepEqual(await problems(manifest), []);
  // Width and height of a PNG.
  assert.deepEqual([files["color.png"].readUInt32BE(16), files["color.png"].readUInt32BE(20)], [192, 192]);
  assert.deepEqual([files["outline.png"].readUInt32BE(16), files["outline.png"].readUInt32BE(20)], [32, 32]);
  return manifest;
}

async function channels(key) {
  const { data } = await (await call(key, "GET", "/channels")).json();
  return data;
}

const tests = {
  "the package of every channel of the demo is valid": async () => {
    for (const key of Object.values(KEYS)) {
      const found = await channels(key);
      assert.equal(found.length, 2);
      for (const { id, display_name: name } of found) {
        const manifest = await assertValid(key, id);
        assert.equal(manifest.name.short, name.length > 30 ? `${name.slice(0, 29).trimEnd()}…` : name);
      }
    }
  },

  "a package of the longest and strangest texts is valid": async () => {
    const [{ id }] = await channels(KEYS.northwind);
    const texts = ["N".repeat(200), "😀".repeat(200), "\"quoted\" \\ <b>&\n\ttext", " "];
    for (const text of texts) {
      const changed = await call(KEYS.northwind, "PATCH", `/channels/${id}`, { display_name: text, description: text.repeat(50) });
      assert.equal(changed.status, 200);
      await assertValid(KEYS.northwind, id);
    }
    const address = `https://harbor-it.example/${"p".repeat(2_000)}`;
    const set = await call(KEYS.northwind, "PATCH", "/tenant", { website_url: address, privacy_url: address, terms_url: address });
    assert.equal(set.status, 200);
    await assertValid(KEYS.northwind, id);
  },

  "the schema refuses what it must": async () => {
    const [{ id }] = await channels(KEYS.fabrikam);
    const manifest = await assertValid(KEYS.fabrikam, id);
    assert.notDeepEqual(await problems({ ...manifest, id: "no-guid" }), []);
    assert.notDeepEqual(await problems({ ...manifest, accentColor: undefined }), []);
    assert.notDeepEqual(await problems({ ...manifest, surplus: true }), []);
  },
};

await server.end((await run(tests)) === 0 ? 0 : 1);
