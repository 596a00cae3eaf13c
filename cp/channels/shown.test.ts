// What `docs/channels.md` shows of each provider is what is sent.

import { expect, test } from "bun:test";
import { join } from "node:path";
import type { EventPayload } from "../events/payload.ts";
import { eventMail } from "../mail/messages.ts";
import type { Provider } from "./channel.ts";
import { detailsOf, summaryOf } from "./message.ts";
import { parseConfig } from "./provider-config.ts";
import { requestOf } from "./requests.ts";

const DOCS = join(import.meta.dirname, "../../docs/channels.md");
const OFFICE = "https://example.webhook.office.com/webhookb2";
const GUID = "00000000-0000-0000-0000-000000000001";
const ID = "0".repeat(25);

const EVENT: EventPayload = {
  ...{ id: `evt-${ID}`, event: "capsule.pause", outcome: "success" },
  ...{ timestamp: "2026-11-29T10:00:00Z", team_id: `team-${ID}` },
  actor: { type: "api_key", id: `key-${ID}`, name: "ci_build" },
  resource: { id: `cl-${ID}`, type: "sandbox" },
  metadata: { from: "pausing", to: "paused", reason: "ttl_expired" },
};

const CONFIGS: Readonly<Record<Exclude<Provider, "email">, Record<string, string>>> = {
  webhook: { url: "https://example.org/hook", secret: "0123456789abcdef" },
  discord: { webhook_url: "https://discord.com/api/webhooks/1/token" },
  slack: { webhook_url: "https://hooks.slack.com/services/T0/B0/token" },
  teams: {
    webhook_url: `${OFFICE}/${GUID}@${GUID}/IncomingWebhook/${"0".repeat(32)}/${GUID}`,
  },
  googlechat: { webhook_url: "https://chat.googleapis.com/v1/spaces/A/messages?key=k&token=t" },
  telegram: { bot_token: `1:${"a".repeat(35)}`, chat_id: "@ops_room" },
  matrix: {
    ...{ homeserver_url: "https://matrix.example.org", room_id: "!room:example.org" },
    access_token: "token",
  },
};

const docs = await Bun.file(DOCS).text();

test.each(Object.entries(CONFIGS))("the docs show what is sent to %s", (provider, config) => {
  const kind = provider as Exclude<Provider, "email">;
  const { method, url, headers, body } = requestOf(kind, parseConfig(kind, config), {
    ...{ event: EVENT, deliveryId: GUID, now: new Date("2026-11-29T10:00:05Z") },
    telegramUrl: "https://api.telegram.org",
  });
  // Of each attempt its own.
  const { "X-Wrenn-Delivery": _, ...shown } = headers;
  const lines = Object.entries(shown).map(([name, value]) => `${name}: ${value}`);
  const text = [`${method} ${url}`, ...lines, "", body].join("\n");

  expect(docs).toContain(`\`\`\`\n${text}\n\`\`\``);
});

test("the docs show the mail", () => {
  const said = { summary: summaryOf(EVENT), type: EVENT.event, details: detailsOf(EVENT) };
  const { subject, text } = eventMail({ to: "ada@example.org", ...said });

  expect(docs).toContain(`\`\`\`\nSubject: ${subject}\n\n${text}\n\`\`\``);
});
