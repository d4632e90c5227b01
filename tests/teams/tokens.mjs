//! Asks Microsoft's libraries and a running server about the same tokens, with the libraries' metadata
//! at the same keys. What the server accepts, both accept. Where the server is stricter, the case says
//! why.

import assert from "node:assert/strict";
import { createSign, generateKeyPairSync } from "node:crypto";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import http, { createServer } from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { namedBinary, startDemo } from "../demo-server.mjs";

/** The time limit of all cases. Only a hanging server reaches it. */
const LIMIT_MILLISECONDS = 50_000;
const BOT = "b07fab1e-c0de-4bee-8ace-facade0fb075";
const OTHER_BOT = "b07a1fa0-c0de-4bee-8ace-feed0a1fa001";
const DIRECTORY = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";
const ISSUER = "https://api.botframework.com";
const SERVICE_URL = "https://smba.trafficmanager.net/emea/";
const FOREIGN_URL = "https://connector.example.com/emea/";

const key = (kid, endorsements, modulusLength = 2_048) => {
  const pair = generateKeyPairSync("rsa", { modulusLength });
  const jwk = pair.publicKey.export({ format: "jwk" });
  return { kid, secret: pair.privateKey, jwk: { ...jwk, kid, use: "sig", ...(endorsements && { endorsements }) } };
};
const good = key("good", ["msteams"]);
const webchat = key("webchat", ["webchat"]);
const unendorsed = key("unendorsed", undefined);
const encryption = key("encryption", ["msteams"]);
encryption.jwk.use = "enc";
const short = key("short", ["msteams"], 1_024);
const stranger = key("good", ["msteams"]);
const keys = [good, webchat, unendorsed, encryption, short].map(({ jwk }) => jwk);

const metadata = createServer((request, reply) => {
  const url = `http://127.0.0.1:${metadata.address().port}`;
  const documents = {
    "/v1/.well-known/openidconfiguration": {
      issuer: ISSUER, jwks_uri: `${url}/v1/.well-known/keys`, id_token_signing_alg_values_supported: ["RS256"],
    },
    "/v1/.well-known/keys": { keys },
  };
  const document = documents[request.url];
  reply.writeHead(document ? 200 : 404, { "content-type": "application/json" });
  reply.end(JSON.stringify(document ?? {}));
});
await new Promise((resolve) => metadata.listen(0, "127.0.0.1", resolve));
const port = metadata.address().port;
const openIdUrl = `http://127.0.0.1:${port}/v1/.well-known/openidconfiguration`;

// One library has the address of the keys built in: its calls go to the same place.
https.request = ({ hostname, host, path, headers, method }, done) => {
  assert.equal(hostname ?? host, "login.botframework.com");
  return http.request({ host: "127.0.0.1", port, path, headers: { ...headers, host: "127.0.0.1" }, method }, done);
};

const require = createRequire(import.meta.url);
const { ConfigurationBotFrameworkAuthentication } = require("botbuilder");
const { authorizeJWT } = require("@microsoft/agents-hosting");

const botbuilder = new ConfigurationBotFrameworkAuthentication({
  MicrosoftAppId: BOT,
  MicrosoftAppPassword: "secret",
  MicrosoftAppTenantId: DIRECTORY,
  MicrosoftAppType: "MultiTenant",
  CallerId: "",
  OAuthUrl: "https://api.botframework.com",
  ToChannelFromBotLoginUrl: "https://login.microsoftonline.com/botframework.com",
  ToChannelFromBotOAuthScope: "https://api.botframework.com",
  ToBotFromChannelTokenIssuer: ISSUER,
  ToBotFromChannelOpenIdMetadataUrl: openIdUrl,
  ToBotFromEmulatorOpenIdMetadataUrl: openIdUrl,
  ValidateAuthority: "true",
});
const connection = { clientId: BOT, tenantId: DIRECTORY, validateIssuer: true };
const middleware = authorizeJWT({ ...connection, connections: new Map([["bot", connection]]) });

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token, signed with RSA and SHA-256. */
function token(signer = good, claims = {}, header = {}) {
  const now = Math.floor(Date.now() / 1_000);
  const all = { iss: ISSUER, aud: BOT, nbf: now - 60, exp: now + 3_600, serviceurl: SERVICE_URL, ...claims };
  const parts = `${encoded({ alg: "RS256", typ: "JWT", kid: signer.kid, ...header })}.${encoded(all)}`;
  return `${parts}.${createSign("SHA256").update(parts).sign(signer.secret).toString("base64url")}`;
}

let sent = 0;
function activity(changes = {}) {
  return {
    type: "message", id: String(++sent), channelId: "msteams", serviceUrl: SERVICE_URL, text: "Hello",
    from: { id: "29:kim", name: "Kim" }, recipient: { id: `28:${BOT}`, name: "Helper" },
    conversation: { id: "a:kim", conversationType: "personal", tenantId: DIRECTORY },
    channelData: { tenant: { id: DIRECTORY } },
    ...changes,
  };
}

const past = () => Math.floor(Date.now() / 1_000) - 301;
const none = (part) => `${encoded({ alg: "none", typ: "JWT" })}.${part.split(".")[1]}.`;

/** Each case: the token, the activity, and why the server is stricter than a library, if it is. */
const cases = {
  "a good token": [() => token()],
  "a token at the edge of its leeway": [() => token(good, { exp: past() + 11 })],
  "an expired token": [() => token(good, { exp: past() })],
  "a token that is not valid yet": [() => token(good, { nbf: past() + 1_000 })],
  "another issuer": [() => token(good, { iss: "https://login.example.com" })],
  "another audience": [() => token(good, { aud: OTHER_BOT })],
  "no audience": [() => token(good, { aud: undefined })],
  "another signer under the same kid": [() => token(stranger)],
  "an unknown kid": [() => token(good, {}, { kid: "unknown" })],
  "no algorithm": [() => none(token())],
  "another algorithm": [() => token(good, {}, { alg: "HS256" })],
  "a service URL that the token does not name": [
    () => token(), { serviceUrl: FOREIGN_URL },
    "one library leaves the comparison to the program: the bot's token would go to the host that the body names",
  ],
  "no service URL in the token": [
    () => token(good, { serviceurl: undefined }), {},
    "one library does not ask for it",
  ],
  "a foreign host in the token and in the activity": [
    () => token(good, { serviceurl: FOREIGN_URL }), { serviceUrl: FOREIGN_URL },
    "the bot's token goes to the host: only listed ones get it, whatever signed the address",
  ],
  "no end": [
    () => token(good, { exp: undefined }), {},
    "a token without an end is valid for ever once it leaks",
  ],
  "a list of audiences": [
    () => token(good, { aud: [BOT, OTHER_BOT] }), {},
    "a token for several bots would let one of them act as another",
  ],
  "a key that endorses another channel": [
    () => token(webchat), {},
    "one library does not read endorsements: the key of another channel would sign what Teams says",
  ],
  "a key without endorsements": [
    () => token(unendorsed), {},
    "both libraries take a key that endorses nothing as one that endorses everything",
  ],
  "another recipient": [
    () => token(), { recipient: { id: `28:${OTHER_BOT}` } },
    "neither library compares the recipient: an activity for one bot would be answered by another",
  ],
  "another channel of the Bot Framework": [
    () => token(webchat), { channelId: "webchat" },
    "clients of other channels choose the M365 tenant that their activities name",
  ],
  "a key for encryption": [
    () => token(encryption), {},
    "one library does not read what a key is for",
  ],
  "a key of 1,024 bits": [() => token(short), {}, "both libraries take short keys"],
  "a critical extension": [
    () => token(good, {}, { crit: ["http://example.com/unknown"] }), {},
    "a reader must refuse an extension that it does not know (RFC 7515, section 4.1.11)",
  ],
};

const folder = await mkdtemp(join(tmpdir(), "switchboard-teams-"));
const bots = join(folder, "bots.json");
const entry = (id) => ({ bot_id: id, tenant_id: DIRECTORY, client_secret: "secret", app_type: "SingleTenant" });
await writeFile(bots, JSON.stringify([entry(BOT), entry(OTHER_BOT)]));
await chmod(bots, 0o600);
const flags = [`--teams-bots=${bots}`, `--teams-openid-url=${openIdUrl}`];
const server = await startDemo(namedBinary(), LIMIT_MILLISECONDS, flags);

async function ours(credential, body) {
  const headers = { authorization: `Bearer ${credential}`, "content-type": "application/json" };
  const reply = await fetch(`${server.url}/api/messages`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.ok([202, 401, 403].includes(reply.status), `${reply.status} ${await reply.text()}`);
  return reply.status === 202;
}

async function theirs(credential, body) {
  const { error } = console;
  // The library prints every token that it refuses.
  console.error = () => {};
  try {
    await botbuilder.authenticateRequest(body, `Bearer ${credential}`);
    return true;
  } catch {
    return false;
  } finally {
    console.error = error;
  }
}

async function theNewOnes(credential) {
  let isAdmitted = false;
  const reply = { status: () => reply, send: () => reply };
  const request = { method: "POST", headers: { authorization: `Bearer ${credential}` } };
  await middleware(request, reply, () => (isAdmitted = true));
  return isAdmitted;
}

let failed = 0;
for (const [name, [makeToken, changes, stricter]] of Object.entries(cases)) {
  const [credential, body] = [makeToken(), activity(changes)];
  const accepts = {
    switchboard: await ours(credential, body),
    botbuilder: await theirs(credential, body),
    "agents-hosting": await theNewOnes(credential),
  };
  const libraries = [accepts.botbuilder, accepts["agents-hosting"]];
  const isRight = accepts.switchboard
    ? stricter === undefined && libraries.every(Boolean)
    : libraries.some(Boolean) === (stricter !== undefined);
  if (!isRight) failed += 1;
  console.log(`${isRight ? "ok" : "FAILED"}: ${name}: ${JSON.stringify(accepts)}${stricter ? `; ${stricter}` : ""}`);
}
await rm(folder, { recursive: true });
metadata.close();
await server.end(failed === 0 ? 0 : 1);
