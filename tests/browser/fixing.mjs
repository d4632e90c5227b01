//! The overview finds M365 tenants and channels that are refused, and fixes them.

import assert from "node:assert/strict";
import { BOT, RELAY_KEY, TAILSPIN } from "./harness.mjs";

const SHARED = "c0ffee00-be4d-4ade-8d0e-decafdecaf00";
const message = (inbound_tenant_id) => ({ agent_id: 101, bot_id: BOT, inbound_tenant_id });

export const scenarios = {
  "a refused M365 tenant is linked on the overview, and its next message reaches the agent": async (visitor) => {
    const { page } = visitor;
    const first = await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: message(TAILSPIN) });
    assert.deepEqual([first.status, first.error.code], [409, "end_company_not_mapped"]);
    await visitor.signIn();
    const row = page.getByRole("listitem").filter({ hasText: TAILSPIN });
    await row.getByText("1 message refused").waitFor();
    await row.getByRole("link", { name: "Client help bot" }).waitFor();
    await visitor.inspect(page, "overview");
    await row.getByRole("button", { name: "Link to a company" }).click();
    const dialog = page.getByRole("dialog", { name: "Link to a company" });
    await dialog.getByRole("combobox", { name: "Company" }).fill("tailsp");
    await dialog.getByRole("option", { name: "Tailspin Toys" }).click();
    await visitor.inspect(page, "overview-link");
    await dialog.getByRole("button", { name: "Link", exact: true }).click();
    await page.getByText("Tailspin Toys was linked.").waitFor();
    await row.waitFor({ state: "detached" });
    const next = await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: message(TAILSPIN) });
    assert.deepEqual([next.status, next.data.end_company_id], [201, "1002"]);
  },

  "a refused M365 tenant is linked to a new company": async (visitor) => {
    const { page } = visitor;
    const stranger = "57a46e40-0000-4000-8000-000000000001";
    const channel = (await visitor.call("GET", "/channels?q=Client")).data[0].id;
    await visitor.call("POST", `/channels/${channel}/installs`, { body: { end_client_tenant_id: stranger } });
    assert.equal((await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: message(stranger) })).status, 409);
    await visitor.signIn();
    await page.getByRole("listitem").filter({ hasText: stranger }).getByRole("button", { name: "Link to a company" }).click();
    const dialog = page.getByRole("dialog", { name: "Link to a company" });
    await dialog.getByRole("button", { name: "Create a company instead" }).click();
    await dialog.getByLabel("Name").fill("Adventure Works");
    // The id of another company: the error is shown at its field, and the input is kept.
    visitor.expectError(/status of 409.*\/end-companies/);
    await dialog.getByLabel("PSA company id").fill("1001");
    await dialog.getByRole("button", { name: "Create and link" }).click();
    await dialog.locator("[aria-invalid=true]").waitFor();
    assert.equal(await dialog.getByLabel("Name").inputValue(), "Adventure Works");
    await dialog.getByLabel("PSA company id").fill("1006");
    await dialog.getByRole("button", { name: "Create and link" }).click();
    await page.getByText("Adventure Works was linked.").waitFor();
    const next = await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: message(stranger) });
    assert.deepEqual([next.status, next.data.end_company_id], [201, "1006"]);
  },

  "one of several companies that share an M365 tenant keeps the link": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    const row = page.getByRole("listitem").filter({ hasText: SHARED });
    await row.getByRole("button", { name: "Choose one company" }).click();
    const dialog = page.getByRole("dialog", { name: "Which company keeps the link?" });
    await dialog.getByRole("listitem").filter({ hasText: "Roastery" }).getByRole("button", { name: "Remove link" }).click();
    await dialog.getByText("Only Fourth Coffee is linked now.").waitFor();
    await dialog.getByRole("button", { name: "Done" }).click();
    await row.waitFor({ state: "detached" });
    const next = await visitor.call("POST", "/chat/sessions", { key: RELAY_KEY, body: message(SHARED) });
    assert.deepEqual([next.status, next.data.end_company_id], [201, "1003"]);
  },

  "a channel with a disabled agent is fixed on the overview": async (visitor) => {
    const { page } = visitor;
    assert.equal((await visitor.call("PUT", "/agents/101", { body: { state: "DISABLED" } })).status, 200);
    await visitor.signIn();
    const row = page.getByRole("listitem").filter({ hasText: "Client help bot" }).filter({ has: page.getByRole("button", { name: "Fix" }) });
    await row.getByRole("button", { name: "Fix" }).click();
    await page.getByRole("dialog", { name: "Fix Client help bot" }).getByRole("button", { name: "Enable Service desk" }).click();
    await page.getByText("Service desk was enabled.").waitFor();
    await row.waitFor({ state: "detached" });
    assert.equal((await visitor.call("GET", "/agents/101")).data.state, "ENABLED");
  },
};
