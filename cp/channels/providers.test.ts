// What each provider is sent, and what its answers mean, as their documentation has both.

import { describe, expect, test } from "bun:test";
import type { EventPayload } from "../events/payload.ts";
import type { Provider } from "./channel.ts";
import { parseConfig } from "./provider-config.ts";
import { requestOf } from "./requests.ts";
import { verdictOf } from "./verdict.ts";

const EVENT: EventPayload = {
  ...{ id: "evt-1", event: "capsule.pause", outcome: "error", timestamp: "2026-11-29T10:00:00Z" },
  team_id: "team-1",
  actor: { type: "api_key", id: "key-1", name: "ci <@everyone> [x](http://evil.test)\nEvent: no" },
  resource: { id: "cl-1", type: "sandbox" },
  metadata: { from: "pausing", to: "running", reason: "ttl_expired" },
  error: "the disk is full & so on",
};
const TEXT = [
  "Capsule cl-1 could not be paused (ttl_expired): the disk is full & so on",
  ...["", "Event: capsule.pause", "Resource: sandbox cl-1"],
  "Actor: api_key ci <@everyone> [x](http://evil.test) Event: no",
  ...["Team: team-1", "Time: 2026-11-29T10:00:00Z"],
].join("\n");

function sent(provider: Exclude<Provider, "email">, given: Record<string, string>) {
  const { url, method, headers, body } = requestOf(provider, parseConfig(provider, given), {
    ...{ event: EVENT, deliveryId: "d-1", now: new Date(0), telegramUrl: "https://tg.test" },
  });
  return { asked: `${method} ${url}`, headers, body: JSON.parse(body) };
}
const GUID = "0123456789abcdef0123456789abcdef0123";

test("the text names what happened in one line, and each fact in one more", () => {
  const { asked, body } = sent("telegram", { bot_token: `1:${"a".repeat(35)}`, chat_id: "-10" });

  expect(asked).toBe(`POST https://tg.test/bot1:${"a".repeat(35)}/sendMessage`);
  expect(body).toEqual({
    ...{ chat_id: "-10", text: TEXT, link_preview_options: { is_disabled: true } },
  });
});

test("Discord calls nobody by a name, and shows it as it is", () => {
  const url = "https://discord.com/api/webhooks/12/a-b_c";
  const { asked, body } = sent("discord", { webhook_url: url });

  expect(asked).toBe(`POST ${url}`);
  expect(body.allowed_mentions).toEqual({ parse: [] });
  expect(body.content).toContain("Actor: api\\_key ci \\<@everyone\\>".replace("\\<", "<"));
  expect(body.content).toContain("\\[x\\]\\(http://evil.test\\)");
});

test("Slack gets its three characters escaped", () => {
  const { body } = sent("slack", { webhook_url: "https://hooks.slack.com/services/T1/B2/c3" });

  expect(body.text).toContain("ci &lt;@everyone&gt;");
  expect(body.text).toContain("is full &amp; so on");
});

test("Teams gets a card", () => {
  const { body } = sent("teams", {
    webhook_url: `https://x.webhook.office.com/webhookb2/${GUID}@${GUID}/IncomingWebhook/${"a".repeat(32)}/${GUID}`,
  });

  expect(body).toMatchObject({
    "@type": "MessageCard",
    summary: TEXT.split("\n")[0],
    text: expect.stringContaining("\n\nEvent: capsule.pause\n\nResource: sandbox cl-1\n\n"),
  });
});

test("Google Chat calls nobody", () => {
  const { body } = sent("googlechat", { webhook_url: "https://chat.googleapis.com/v1/spaces/a" });

  expect(body.text).toContain("ci ‹@everyone›");
});

test("Matrix gets a transaction, so that it takes it once", () => {
  const { asked, headers, body } = sent("matrix", {
    ...{ homeserver_url: "https://m.test/base/", access_token: "secret", room_id: "!a/b:m.test" },
  });

  expect(asked).toBe(
    "PUT https://m.test/base/_matrix/client/v3/rooms/!a%2Fb%3Am.test/send/m.room.message/d-1",
  );
  expect(headers.Authorization).toBe("Bearer secret");
  expect(body).toEqual({ msgtype: "m.text", body: TEXT, "m.mentions": {} });
});

describe("an answer", () => {
  const REFUSED_BY_TEAMS =
    "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error";
  const date = "Sun, 29 Nov 2026 10:00:00 GMT";
  test.each<[string, Provider, number, string, Record<string, string>, object]>([
    ["Slack's ok", "slack", 200, "ok", {}, { kind: "delivered", status: 200 }],
    ["Discord's", "discord", 204, "", {}, { kind: "delivered" }],
    ["Slack's no_service", "slack", 404, "no_service", {}, { kind: "failed", status: 404 }],
    ["a redirect", "webhook", 301, "", {}, { kind: "failed", status: 301 }],
    ["a limit in seconds", "slack", 429, "", { "retry-after": "7" }, { afterSec: 7 }],
    [
      ...(["a limit by date", "slack", 429, ""] as const),
      { date, "retry-after": "Sun, 29 Nov 2026 10:01:00 GMT" },
      { kind: "limited", afterSec: 60 },
    ],
    ["Discord's limit", "discord", 429, '{"retry_after": 0.3}', {}, { afterSec: 1 }],
    [
      ...(["Telegram's limit", "telegram", 429] as const),
      ...(['{"ok":false,"parameters":{"retry_after":35}}', {}, { afterSec: 35 }] as const),
    ],
    [
      ...(["Matrix' limit", "matrix", 429] as const),
      ...(['{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}', {}, { afterSec: 3 }] as const),
    ],
    ["a limit of a year", "webhook", 429, "", { "retry-after": "31536000" }, { afterSec: 900 }],
    ["Teams' 1", "teams", 200, "1", {}, { kind: "delivered" }],
    [
      "Teams' refusal",
      "teams",
      200,
      `${REFUSED_BY_TEAMS} 400`,
      {},
      { kind: "failed", status: 400 },
    ],
    ["Teams' limit", "teams", 200, `${REFUSED_BY_TEAMS} 429`, {}, { kind: "limited" }],
    ["the same of others", "webhook", 200, `${REFUSED_BY_TEAMS} 400`, {}, { kind: "delivered" }],
  ])("%s", (_what, provider, status, text, headers, verdict) => {
    const answer = { status, text, headers: new Headers(headers) };
    expect(verdictOf(provider, answer)).toMatchObject(verdict);
  });
});
