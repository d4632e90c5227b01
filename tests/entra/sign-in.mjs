//! Signs in to a running server with tokens that a published mock of an authority mints, so that not only our own mock agrees with it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { OAuth2Server } from "oauth2-mock-server";

const AUDIENCE = "api://switchboard";
/** Northwind IT's directory in the demo world. */
const DIRECTORY = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";
const PERSON = "0b9f3c7e-6a41-4f0d-9d5b-3f1e2a7c8d60";
/** Nothing here takes long; what hangs must fail. */
const LIMIT_MILLISECONDS = 50_000;

const binary = process.argv[2];
if (!binary) {
  console.error("usage: node sign-in.mjs PATH_OF_THE_SWITCHBOARD_BINARY");
  process.exit(2);
}

const mock = new OAuth2Server();
await mock.issuer.keys.generate("RS256");
await mock.start(0, "127.0.0.1");

/** Entra has two documents at addresses of its own; all but the issuer in them is the mock's. */
const documents = {
  "/common/v2.0/.well-known/openid-configuration": () => `${authority}/{tenantid}/v2.0`,
  "/common/.well-known/openid-configuration": () => "https://sts.windows.net/{tenantid}/",
};
const front = createServer(async (request, reply) => {
  const issuer = documents[request.url];
  if (!issuer) {
    reply.writeHead(404).end();
    return;
  }
  const document = await (await fetch(`${mock.issuer.url}/.well-known/openid-configuration`)).json();
  reply.writeHead(200, { "content-type": "application/json" });
  reply.end(JSON.stringify({ ...document, issuer: issuer() }));
});
await new Promise((resolve) => front.listen(0, "127.0.0.1", resolve));
const authority = `http://127.0.0.1:${front.address().port}`;

const folder = await mkdtemp(join(tmpdir(), "switchboard-entra-"));
const flags = ["--data", join(folder, "data"), "--listen", "127.0.0.1:0"];
const entra = ["--entra-authority", authority, "--entra-audience", AUDIENCE, "--entra-client-id", "dashboard"];
const server = spawn(binary, ["demo", ...flags, ...entra], { stdio: ["ignore", "ignore", "pipe"] });
const stopped = new Promise((resolve) => server.once("close", resolve));

async function end(code) {
  if (server.exitCode === null) server.kill("SIGKILL");
  await stopped;
  await rm(folder, { recursive: true, force: true });
  process.exit(code);
}

setTimeout(() => {
  console.error("the run took too long");
  void end(1);
}, LIMIT_MILLISECONDS);

/** The server says on stderr where it listens. */
function listening() {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("exit", () => reject(new Error("the server ended before it listened")));
    // Its log is read to the end, so that it never waits for room.
    createInterface({ input: server.stderr }).on("line", (line) => {
      const found = /listening on (http:\/\/\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
  });
}

const base = `${await listening().catch(async (error) => {
  console.error(error);
  await end(1);
})}/public-api`;

/** A token of the mock's own token endpoint, with the claims that Entra's have. */
async function token(claims = {}) {
  mock.service.once("beforeTokenSigning", ({ payload }) => {
    const now = Math.floor(Date.now() / 1000);
    Object.assign(payload, {
      aud: AUDIENCE,
      iss: `${authority}/${DIRECTORY}/v2.0`,
      iat: now,
      nbf: now,
      exp: now + 600,
      tid: DIRECTORY,
      oid: PERSON,
      name: "Mika Aalto",
      preferred_username: "mika@northwind-it.example",
      scp: "access_as_user",
      ver: "2.0",
      ...claims,
    });
  });
  const reply = await fetch(`${mock.issuer.url}/token`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: "grant_type=client_credentials",
  });
  assert.equal(reply.status, 200);
  return (await reply.json()).access_token;
}

async function whoami(credential) {
  const reply = await fetch(`${base}/whoami`, { headers: { authorization: `Bearer ${credential}` } });
  return { status: reply.status, ...(await reply.json()) };
}

async function isAccepted(credential, role) {
  const { status, data, error } = await whoami(credential);
  assert.equal(status, 200, JSON.stringify(error));
  assert.deepEqual(data, {
    kind: "dashboard_user",
    id: PERSON,
    name: "Mika Aalto",
    client_id: "northwind-it",
    role,
    platform: false,
    session_id: null,
  });
}

async function isRefused(credential, reason) {
  const { status, error } = await whoami(credential);
  assert.deepEqual([status, error?.details], [401, { reason }]);
}

const tests = {
  "a token of version 2.0 signs its person in": async () => {
    await isAccepted(await token(), "USER");
  },

  "so does one of version 1.0": async () => {
    const claims = { ver: "1.0", iss: `https://sts.windows.net/${DIRECTORY}/`, preferred_username: undefined, upn: "m@x" };
    await isAccepted(await token(claims), "USER");
  },

  "the roles of a token count": async () => {
    await isAccepted(await token({ roles: ["Viewer", "Admin"] }), "ADMIN");
    await isAccepted(await token(), "USER");
  },

  "a token for somebody else, of somebody else or past its time does not count": async () => {
    await isRefused(await token({ aud: "api://other" }), "wrong_audience");
    await isRefused(await token({ iss: mock.issuer.url }), "wrong_issuer");
    await isRefused(await token({ tid: "a-directory-of-nobody", iss: `${authority}/a-directory-of-nobody/v2.0` }), "unknown_tenant");
    await isRefused(await token({ exp: 1_000_000_000 }), "expired");
    await isRefused(`${(await token()).slice(0, -8)}AAAAAAAA`, "bad_signature");
  },

  "the key that the authority changes to counts as soon as it signs": async () => {
    const before = await token();
    const { kid } = await mock.issuer.keys.generate("RS256");
    let after;
    // The mock signs with its keys in turn.
    do after = await token();
    while (JSON.parse(Buffer.from(after.split(".")[0], "base64url")).kid !== kid);
    await isAccepted(after, "USER");
    await isAccepted(before, "USER");
  },

  "a browser is told where to sign people in": async () => {
    const { data } = await (await fetch(`${base}/auth/config`)).json();
    assert.deepEqual(data, {
      local: true,
      entra: { authority, client_id: "dashboard", scopes: [`${AUDIENCE}/.default`] },
    });
  },

  "what is known goes on counting when the authority is gone": async () => {
    const credential = await token();
    front.close();
    await mock.stop();
    await isAccepted(credential, "USER");
  },
};

let failures = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok: ${name}`);
  } catch (error) {
    failures += 1;
    console.error(`FAILED: ${name}`);
    console.error(error);
  }
}
await end(failures === 0 ? 0 : 1);
