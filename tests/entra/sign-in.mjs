//! Signs in to a running server with the tokens of a published mock of an OAuth authority. The mock
//! authority of the Rust tests is our own, so it could share an error with the server.

import assert from "node:assert/strict";
import { namedBinary, run, startDemo } from "../demo-server.mjs";
import { AUDIENCE, DIRECTORY, PERSON, startAuthority } from "./authority.mjs";

/** The time limit of all tests. Only a hanging server reaches it. */
const LIMIT_MILLISECONDS = 50_000;

const binary = namedBinary();
const authority = await startAuthority();
const { token } = authority;
const server = await startDemo(binary, LIMIT_MILLISECONDS, authority.flags);
const base = `${server.url}/public-api`;

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
  "a token of version 2.0 signs a person in": async () => {
    await isAccepted(await token(), "USER");
  },

  "a token of version 1.0 signs a person in": async () => {
    const claims = { ver: "1.0", iss: `https://sts.windows.net/${DIRECTORY}/`, preferred_username: undefined, upn: "m@x" };
    await isAccepted(await token(claims), "USER");
  },

  "the roles of a token set the role of the caller": async () => {
    await isAccepted(await token({ roles: ["Viewer", "Admin"] }), "ADMIN");
    await isAccepted(await token(), "USER");
  },

  "a token with a wrong audience, issuer, tenant, expiry or signature is refused": async () => {
    await isRefused(await token({ aud: "api://other" }), "wrong_audience");
    await isRefused(await token({ iss: authority.issuer }), "wrong_issuer");
    await isRefused(await token({ tid: "a-directory-of-nobody", iss: `${authority.url}/a-directory-of-nobody/v2.0` }), "unknown_tenant");
    await isRefused(await token({ exp: 1_000_000_000 }), "expired");
    await isRefused(`${(await token()).slice(0, -8)}AAAAAAAA`, "bad_signature");
  },

  "a new signing key of the authority is accepted at once": async () => {
    const before = await token();
    const kid = await authority.newKey();
    let after;
    // The mock alternates between its keys.
    do after = await token();
    while (JSON.parse(Buffer.from(after.split(".")[0], "base64url")).kid !== kid);
    await isAccepted(after, "USER");
    await isAccepted(before, "USER");
  },

  "the sign-in configuration names the authority": async () => {
    const { data } = await (await fetch(`${base}/auth/config`)).json();
    assert.deepEqual(data, {
      local: true,
      entra: { authority: authority.url, client_id: "dashboard", scopes: [`${AUDIENCE}/.default`] },
    });
  },

  "a token of a known key is accepted while the authority is down": async () => {
    const credential = await token();
    await authority.stop();
    await isAccepted(credential, "USER");
  },
};

await server.end((await run(tests)) === 0 ? 0 : 1);
