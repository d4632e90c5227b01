/** Microsoft's botbuilder package at work: it verifies incoming activities and sends replies. */

import { webcrypto } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type Activity, CloudAdapter, ConfigurationBotFrameworkAuthentication, TurnContext } from "botbuilder";

// Node.js 18 lacks this global, which the SDK uses.
(globalThis as { crypto?: unknown }).crypto ??= webcrypto;

const { MicrosoftAppId = "", MicrosoftAppPassword = "", MicrosoftAppTenantId, RELAY_LISTEN } = process.env;
const MicrosoftAppType = MicrosoftAppTenantId ? "SingleTenant" : "MultiTenant";
const [host = "", port] = (RELAY_LISTEN || "127.0.0.1:3978").split(":");
const MAX_BODY_CHARACTERS = 1 << 20;
export const APP_ID = MicrosoftAppId;
if (!APP_ID) fail("MicrosoftAppId is not set");

// The SDK verifies nothing if it does not know the bot's id.
const settings: Record<string, string | undefined> = MicrosoftAppPassword ? { MicrosoftAppType, ...process.env } : {};
const adapter = new CloudAdapter(new ConfigurationBotFrameworkAuthentication(settings));

/** Sends a text into the conversation of an activity, as a reply to it. */
export async function post(activity: Activity, text: string) {
  const reference = TurnContext.getConversationReference(activity);
  await adapter.continueConversationAsync(MicrosoftAppPassword && APP_ID, reference, async (context) => {
    context.activity.id = activity.id!; // The SDK makes up an id, which the reply would answer.
    await context.sendActivity({ type: "message", text, textFormat: "markdown" });
  });
}

/** Ends the start of the relay. */
export function fail(reason: string): never {
  console.error(`relay: ${reason}`);
  process.exit(1);
}

/** Gives each verified activity to `receive`, until SIGTERM or Ctrl-C. */
export function serve(receive: (activity: Activity) => void) {
  if (!MicrosoftAppPassword) {
    console.error("relay: WITHOUT MicrosoftAppPassword ANYBODY CAN SPEAK FOR ANYBODY");
    if (!host.startsWith("127.") && !process.argv.includes("--unverified"))
      fail("so it listens on 127.0.0.1 only; --unverified listens elsewhere");
  }
  const server = createServer((request, response) => {
    take(request, response, receive).catch((failure) => {
      console.error(`relay: ${failure}`);
      response.writeHead(400).end();
    });
  });
  server.listen(Number(port), host, () => {
    const address = server.address() as { port: number };
    console.log(`relay: listening on http://${host}:${address.port}/api/messages`);
  });
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => server.close());
}

async function take(request: IncomingMessage, response: ServerResponse, receive: (activity: Activity) => void) {
  let text = "";
  for await (const piece of request.setEncoding("utf8"))
    if ((text += piece).length > MAX_BODY_CHARACTERS) throw new Error("an activity is too large");
  const body = JSON.parse(text) as Record<string, unknown>;
  const { method = "", headers } = request;
  // The SDK expects a response as the package express makes it.
  const like = Object.assign(response, {
    status: (code: number) => void (response.statusCode = code),
    header: (name: string, value: string) => void response.setHeader(name, value),
    send: (text: unknown) => void response.write(typeof text === "string" ? text : JSON.stringify(text)),
  });
  await adapter.process({ method, headers, body }, like, async (context) => receive(context.activity));
}
