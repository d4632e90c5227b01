//! The app package of a channel: its icons, its addresses and its download.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { crc32, deflateSync } from "node:zlib";

function chunk(kind, content) {
  const named = Buffer.concat([Buffer.from(kind), content]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, sum]);
}

/** A square picture in PNG of one color, whose first pixel is transparent. */
function picture(side, color) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header.set([8, 6], 8);
  const rows = Array.from({ length: side }, (_, row) => [0, ...Array.from({ length: side }, (__, column) => (row + column === 0 ? [0, 0, 0, 0] : color)).flat()]);
  const parts = [chunk("IHDR", header), chunk("IDAT", deflateSync(Buffer.from(rows.flat()))), chunk("IEND", Buffer.alloc(0))];
  return { name: "icon.png", mimeType: "image/png", buffer: Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...parts]) };
}

const ADDRESSES = ["Website", "Privacy statement", "Terms of use"];

export const scenarios = {
  "an app package has the icons that were uploaded and the addresses of the tenant": async (visitor) => {
    const { page } = visitor;
    visitor.expectError(/409/);
    visitor.expectError(/400/);
    await visitor.signIn();
    const { data: [{ id }] } = await visitor.call("GET", "/channels?q=technician");
    await page.goto(`#/channels/${id}`);
    const part = page.getByRole("region", { name: "App package" });
    await part.getByRole("img", { name: "Color icon of the bot" }).waitFor();
    assert.equal(await part.getByText("drawn from the name").count(), 2);
    await visitor.inspect(page, "app-package");

    const download = part.getByRole("button", { name: "Download the package" });
    await download.click();
    await page.getByText("The app package needs the address of the MSP's website.").waitFor();

    for (const label of ADDRESSES) await part.getByLabel(label).fill("https://northwind-it.example/bots");
    await part.getByRole("button", { name: "Save addresses" }).click();
    await page.getByText("Saved.").waitFor();
    assert.equal((await visitor.call("GET", "/tenant")).data.terms_url, "https://northwind-it.example/bots");

    await part.getByLabel("Color icon", { exact: true }).setInputFiles(picture(32, [0, 0, 200, 255]));
    await page.getByText("The picture must have 192 x 192 pixels, but has 32 x 32.").waitFor();
    await part.getByLabel("Color icon", { exact: true }).setInputFiles(picture(192, [0, 0, 200, 255]));
    await part.getByText("uploaded", { exact: true }).waitFor();
    await part.getByLabel("Outline icon", { exact: true }).setInputFiles(picture(32, [255, 255, 255, 255]));
    await part.getByText("uploaded", { exact: true }).nth(1).waitFor();

    const [file] = await Promise.all([page.waitForEvent("download"), download.click()]);
    assert.equal(file.suggestedFilename(), "northwind-technician-assistant.zip");
    const zip = await readFile(await file.path());
    assert.ok(zip.includes(picture(192, [0, 0, 200, 255]).buffer));
    assert.ok(zip.includes("https://northwind-it.example/bots"));

    await part.getByRole("button", { name: "Remove" }).first().click();
    await part.getByText("drawn from the name").waitFor();
    const { data: after } = await visitor.call("GET", `/channels/${id}`);
    assert.deepEqual([after.color_icon_uploaded, after.outline_icon_uploaded], [false, true]);
    assert.equal((await visitor.call("DELETE", `/channels/${id}/icons/outline`)).status, 204);
    const cleared = { website_url: null, privacy_url: null, terms_url: null };
    assert.equal((await visitor.call("PATCH", "/tenant", { body: cleared })).status, 200);
  },

  "a bot answers every message of a group if the channel says so": async (visitor) => {
    const { page } = visitor;
    await visitor.signIn();
    const { data: [{ id }] } = await visitor.call("GET", "/channels?q=technician");
    await page.goto(`#/channels/${id}`);
    await page.getByLabel("Answers in groups").selectOption("ALWAYS");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.getByText("Saved.").waitFor();
    assert.equal((await visitor.call("GET", `/channels/${id}`)).data.group_replies, "ALWAYS");
    assert.equal((await visitor.call("PATCH", `/channels/${id}`, { body: { group_replies: null } })).status, 200);
  },
};
