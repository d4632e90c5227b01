//! A published mock of an OAuth authority, with the addresses of Microsoft Entra ID.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { OAuth2Server } from "oauth2-mock-server";

export const AUDIENCE = "api://switchboard";
/** The M365 tenant of Northwind IT in the demo data. */
export const DIRECTORY = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";
export const PERSON = "0b9f3c7e-6a41-4f0d-9d5b-3f1e2a7c8d60";

const ENDPOINTS = { "/common/oauth2/v2.0/authorize": "/authorize", "/common/oauth2/v2.0/token": "/token" };

/**
 * Starts the authority. Returns:
 *
 * - `url`, and the `flags` of a server that trusts the authority
 * - `signs(claims)` sets claims of the next token
 * - `token(claims)` mints a token
 * - `asked`: the parameters of the last requests of a browser
 * - `newKey()` adds a signing key
 * - `stop()`
 */
export async function startAuthority() {
  const mock = new OAuth2Server();
  await mock.issuer.keys.generate("RS256");
  await mock.start(0, "127.0.0.1");
  const asked = {};

  /**
   * The issuers in Entra's two discovery documents. The mock provides the rest of the documents.
   */
  const documents = {
    "/common/v2.0/.well-known/openid-configuration": () => `${url}/{tenantid}/v2.0`,
    "/common/.well-known/openid-configuration": () => "https://sts.windows.net/{tenantid}/",
  };
  const front = createServer(async (request, reply) => {
    const { pathname, search, searchParams } = new URL(request.url, url);
    const cors = { "access-control-allow-origin": "*", "access-control-allow-headers": "*" };
    if (documents[pathname]) {
      const document = await (await fetch(`${mock.issuer.url}/.well-known/openid-configuration`)).json();
      const [authorization_endpoint, token_endpoint] = Object.keys(ENDPOINTS).map((path) => url + path);
      reply.writeHead(200, { ...cors, "content-type": "application/json" });
      reply.end(JSON.stringify({ ...document, issuer: documents[pathname](), authorization_endpoint, token_endpoint }));
    } else if (ENDPOINTS[pathname]) {
      const body = Buffer.concat(await request.toArray());
      if (request.method === "GET") asked.authorize = searchParams;
      else asked.token = new URLSearchParams(body.toString());
      const answer = await fetch(`${mock.issuer.url}${ENDPOINTS[pathname]}${search}`, {
        method: request.method,
        headers: request.headers["content-type"] ? { "content-type": request.headers["content-type"] } : {},
        body: request.method === "POST" ? body : undefined,
        redirect: "manual",
      });
      const location = answer.headers.get("location");
      reply.writeHead(answer.status, { ...cors, "content-type": "application/json", ...(location && { location }) });
      reply.end(Buffer.from(await answer.arrayBuffer()));
    } else {
      reply.writeHead(404, cors).end();
    }
  });
  await new Promise((resolve) => front.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${front.address().port}`;

  function signs(claims = {}) {
    mock.service.once("beforeTokenSigning", ({ payload }) => {
      const now = Math.floor(Date.now() / 1000);
      Object.assign(payload, {
        aud: AUDIENCE,
        iss: `${url}/${DIRECTORY}/v2.0`,
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
  }

  return {
    url,
    issuer: mock.issuer.url,
    flags: ["--entra-authority", url, "--entra-audience", AUDIENCE, "--entra-client-id", "dashboard"],
    asked,
    signs,
    async token(claims) {
      signs(claims);
      const reply = await fetch(`${mock.issuer.url}/token`, {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: "grant_type=client_credentials",
      });
      assert.equal(reply.status, 200);
      return (await reply.json()).access_token;
    },
    newKey: async () => (await mock.issuer.keys.generate("RS256")).kid,
    async stop() {
      front.close();
      front.closeAllConnections();
      await mock.stop();
    },
  };
}
