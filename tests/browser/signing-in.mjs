//! Signing in and signing out.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { startDemo } from "../demo-server.mjs";
import { startAuthority } from "../entra/authority.mjs";
import { FABRIKAM_KEY, NORTHWIND_KEY } from "./harness.mjs";

const PERSON = "5d0b5c0f-2d0c-4b51-8d2b-7a54c6a1e0aa";

/** The addresses of requests and of the history, and the storage that outlives a tab. */
async function traces({ page, addresses }) {
  const [visited, local] = await page.evaluate(() => [navigation.entries().map(({ url }) => url ?? ""), JSON.stringify(localStorage) + document.cookie]);
  return [...addresses, ...visited, page.url(), local];
}

const token = (page) => page.evaluate(() => sessionStorage.getItem("switchboard.token"));
const signInField = (page) => page.getByLabel("Sign-in link or API key");

export const scenarios = {
  "the root of the server leads to the dashboard, and its icon is served at the root": async (visitor) => {
    const { page, home } = visitor;
    await page.goto(home.demo.url);
    await signInField(page).waitFor();
    assert.equal(page.url(), `${home.demo.url}/dashboard`);
    // The browser of a test asks for no icon by itself.
    const icon = await fetch(`${home.demo.url}/favicon.ico`);
    assert.deepEqual([icon.status, icon.headers.get("content-type")], [200, "image/svg+xml"]);
  },

  "the command of the sign-in page makes a link for this server when it is pasted into a shell": async (visitor) => {
    const { page, home } = visitor;
    await page.goto(`${home.demo.url}/dashboard`);
    const command = await page.locator(".sign-in .secret code").innerText();
    await page.getByText("It signs you in to northwind-it.").waitFor();
    await visitor.inspect(page, "sign-in-command");
    const { stdout } = await promisify(execFile)("sh", ["-c", command], { cwd: "/", env: {} });
    assert.ok(stdout.startsWith(`${home.demo.url}/dashboard#code=`), stdout);
    await page.goto(stdout.trim());
    await visitor.isSignedIn();
  },

  "a new tab is signed in by another one without stored tokens, and signing out ends both": async (visitor) => {
    const { page, home, context } = visitor;
    await visitor.signIn();
    const other = await context.newPage();
    await other.goto(`${home.demo.url}/dashboard#/companies`);
    await other.getByRole("heading", { level: 1, name: "Companies" }).waitFor();
    assert.equal(await token(other), await token(page));
    for (const trace of await traces(visitor)) assert.ok(!trace.includes(await token(page)), trace);
    await other.getByRole("button", { name: "Sign out" }).click();
    for (const each of [page, other]) {
      await signInField(each).waitFor();
      assert.equal(await each.evaluate(() => JSON.stringify(sessionStorage)), "{}");
    }
    const third = await context.newPage();
    await third.goto(`${home.demo.url}/dashboard`);
    await signInField(third).waitFor();
    // Whoever signs in now is signed in in the tabs that wait for it.
    await third.goto(await visitor.link("USER"));
    for (const each of [page, other, third]) {
      await visitor.isSignedIn(each);
      assert.equal(await token(each), await token(third));
    }
  },

  "two people in two tabs are never mixed": async (visitor) => {
    const { page, context } = visitor;
    await visitor.signIn();
    const other = await context.newPage();
    await other.goto(page.url());
    await visitor.isSignedIn(other);
    await other.goto(await visitor.link("VIEWER"));
    await other.locator(".side-who").getByText("Viewer").waitFor();
    await other.locator(".side-server").getByText(/^Switchboard \d+\.\d+\.\d+ · SQLite$/).waitFor();
    const whoIs = async (tab) => (await visitor.call("GET", "/whoami", { key: await token(tab) })).data.id;
    assert.deepEqual([await whoIs(page), await whoIs(other)], ["local:ADMIN", "local:VIEWER"]);
    await page.reload();
    await page.locator(".side-who").getByText("Administrator").waitFor();
    // A person who signs out does not become the person of another tab.
    await other.getByRole("button", { name: "Sign out" }).click();
    await signInField(other).waitFor();
    await other.reload();
    await signInField(other).waitFor();
    assert.equal(await token(other), null);
    assert.equal(await whoIs(page), "local:ADMIN");
    await page.getByRole("link", { name: "Audit" }).click();
    await page.getByRole("heading", { level: 1, name: "Audit" }).waitFor();
  },

  "a link signs its holder in, and no address contains its code or the token": async (visitor) => {
    const { page, home } = visitor;
    const code = new URL(home.demo.link).hash.replace("#code=", "");
    const exchange = page.waitForResponse((response) => response.url().endsWith("/auth/exchange"));
    await page.goto(home.demo.link);
    const { data } = await (await exchange).json();
    await visitor.isSignedIn();
    await page.reload();
    await visitor.isSignedIn();
    for (const trace of await traces(visitor)) {
      assert.ok(!trace.includes(code) && !trace.includes(data.token), trace);
    }
  },

  "a link works only once": async (visitor) => {
    const { page, home } = visitor;
    visitor.expectError(/status of 401.*\/auth\/exchange/);
    await page.goto(home.demo.link);
    await page.getByText("This link is unknown or was already used.").waitFor();
    assert.ok(!page.url().includes("code="));
    await visitor.inspect(page, "sign-in");
  },

  "a pasted key signs its service account in, and signing out removes the key": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/status of 403.*\/auth\/sign-out/);
    visitor.expectError(/status of 401.*\/whoami/);
    await page.goto(`${visitor.home.demo.url}/dashboard`);
    const field = page.getByLabel("Sign-in link or API key");
    await field.fill("neo_sk_demo_nobody0000000000000");
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByText("Sign-in failed.").waitFor();
    assert.equal(await field.inputValue(), "neo_sk_demo_nobody0000000000000");
    await field.fill(NORTHWIND_KEY);
    await field.press("Enter");
    await visitor.isSignedIn();
    // A service account manages neither keys nor users.
    assert.equal(await page.getByRole("link", { name: "Keys" }).count(), 0);
    for (const trace of await traces(visitor)) assert.ok(!trace.includes(NORTHWIND_KEY), trace);
    await page.getByRole("button", { name: "Sign out" }).click();
    await field.waitFor();
    assert.equal(await page.evaluate(() => JSON.stringify(sessionStorage)), "{}");
  },

  "signing out revokes the token on the server": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    const token = await page.evaluate(() => sessionStorage.getItem("switchboard.token"));
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Sign-in link or API key").waitFor();
    const { status, error } = await visitor.call("GET", "/whoami", { key: token });
    assert.deepEqual([status, error.details.reason], [401, "revoked"]);
  },

  "a person whose sign-in ends in a form signs in again without losing input": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/status of 401/);
    await visitor.signIn();
    await page.goto("#/companies/+new");
    await page.getByLabel("Name").fill("Proseware");
    await page.getByLabel("PSA company id").fill("2001");
    const token = await page.evaluate(() => sessionStorage.getItem("switchboard.token"));
    assert.equal((await visitor.call("POST", "/auth/sign-out", { key: token })).status, 204);
    await page.getByRole("button", { name: "Create" }).click();
    const again = page.getByRole("dialog", { name: "Sign in again" });
    await again.getByLabel("Sign-in link or API key").fill(await visitor.link());
    await again.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Proseware" }).waitFor();
    assert.equal((await visitor.call("GET", "/end-companies/2001")).data.psa_company_name, "Proseware");
  },

  "a form is not submitted if another person signs in again": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/status of 401/);
    await visitor.signIn();
    await page.goto("#/companies/+new");
    await page.getByLabel("Name").fill("Somebody's");
    await page.getByLabel("PSA company id").fill("2002");
    const token = await page.evaluate(() => sessionStorage.getItem("switchboard.token"));
    assert.equal((await visitor.call("POST", "/auth/sign-out", { key: token })).status, 204);
    await page.getByRole("button", { name: "Create" }).click();
    const again = page.getByRole("dialog", { name: "Sign in again" });
    await again.getByLabel("Sign-in link or API key").fill(FABRIKAM_KEY);
    await again.getByRole("button", { name: "Sign in", exact: true }).click();
    await again.waitFor({ state: "detached" });
    await page.getByRole("navigation", { name: "Views" }).waitFor();
    await page.getByText("Fabrikam").locator("visible=true").waitFor();
    for (const key of [NORTHWIND_KEY, FABRIKAM_KEY]) assert.equal((await visitor.call("GET", "/end-companies/2002", { key })).status, 404);
  },

  "Microsoft Entra ID signs a person in with a code and PKCE, and no address contains the token": async (visitor) => {
    const { home } = visitor;
    const authority = await startAuthority();
    const demo = await startDemo(home.binary, 60_000, authority.flags);
    try {
      const guest = await home.visitor({ demo, others: [authority.url] });
      authority.signs({ oid: PERSON, roles: ["Admin"], name: "Mika Aalto" });
      await guest.page.goto(`${demo.url}/dashboard`);
      await guest.page.getByRole("button", { name: "Sign in with Microsoft" }).click();
      await guest.isSignedIn();
      await guest.page.getByText("Mika Aalto").waitFor();
      const { authorize, token } = authority.asked;
      assert.equal(authorize.get("code_challenge_method"), "S256");
      assert.match(authorize.get("code_challenge"), /^[\w-]{43}$/);
      assert.match(token.get("code_verifier"), /^[\w-]{43}$/);
      assert.equal(new URL(guest.page.url()).search, "");
      const access = await guest.page.evaluate(() => sessionStorage.getItem("switchboard.token"));
      for (const trace of await traces(guest)) assert.ok(!trace.includes(access), trace);
      const { data } = await guest.call("GET", "/whoami", { key: access });
      assert.deepEqual([data.id, data.role, data.client_id], [PERSON, "ADMIN", "northwind-it"]);
      await guest.assertNoErrors();
    } finally {
      await authority.stop();
      await demo.stop();
    }
  },

  "a code that this page did not request is rejected": async (visitor) => {
    const { page, home } = visitor;
    await page.goto(`${home.demo.url}/dashboard?code=abc&state=made-up`);
    await page.getByText("This sign-in was not started on this page.").waitFor();
    assert.equal(new URL(page.url()).search, "");
  },
};
