// What is sent to each provider.

import type { EventPayload } from "../events/payload.ts";
import type { OutboundRequest } from "../outbound/outbound.ts";
import type { ChannelConfig, Provider } from "./channel.ts";
import { detailsOf, summaryOf, textOf } from "./message.ts";
import { signedHeaders } from "./signature.ts";

/** Providers refuse longer ones: Discord 2,000 characters, Telegram 4,096, Google Chat 4,096 bytes. */
const TEXT_LENGTH_MAX = 1900;

export interface Sending {
  readonly event: EventPayload;
  /** The same for each attempt of one delivery. */
  readonly deliveryId: string;
  readonly now: Date;
  readonly telegramUrl: string;
}

type Fields = Readonly<Record<string, string>>;

/** By everything that is a provider of HTTP. */
const REQUESTS: Readonly<
  Record<Exclude<Provider, "email">, (config: Fields, sending: Sending) => OutboundRequest>
> = {
  webhook: ({ url = "", secret = "" }, { event, now }) => {
    const body = JSON.stringify(event);
    const attemptId = crypto.randomUUID();
    const headers = signedHeaders({ secret, eventId: event.id, attemptId, now, body });
    return { ...post(url, {}), headers: { ...JSON_TYPE, ...headers }, body };
  },
  discord: ({ webhook_url = "" }, { event }) =>
    // Nobody is called by a name that somebody chose.
    post(webhook_url, {
      content: bounded(escaped(textOf(event), /[\\*_~`|>[\]()#]/g)),
      allowed_mentions: { parse: [] },
    }),
  slack: ({ webhook_url = "" }, { event }) =>
    post(webhook_url, { text: bounded(inHtml(textOf(event))), unfurl_links: false }),
  teams: ({ webhook_url = "" }, { event }) => {
    const details = [`Event: ${event.event}`, ...detailsOf(event)].map(inCard);
    const lines = [`**${inCard(summaryOf(event))}**`, ...details];
    return post(webhook_url, {
      "@type": "MessageCard",
      "@context": "https://schema.org/extensions",
      summary: bounded(summaryOf(event)),
      // A single line break is none to Teams.
      text: bounded(lines.join("\n\n")),
    });
  },
  googlechat: ({ webhook_url = "" }, { event }) =>
    // `<users/all>` would call everybody, and there is no way to escape it.
    post(webhook_url, { text: bounded(textOf(event).replaceAll("<", "‹").replaceAll(">", "›")) }),
  telegram: ({ bot_token = "", chat_id = "" }, { event, telegramUrl }) =>
    post(`${telegramUrl}/bot${bot_token}/sendMessage`, {
      ...{ chat_id, text: bounded(textOf(event)) },
      link_preview_options: { is_disabled: true },
    }),
  matrix: ({ homeserver_url = "", access_token = "", room_id = "" }, { event, deliveryId }) => ({
    ...post(
      // The homeserver takes a transaction once, however often it is sent.
      `${homeserver_url}/_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/send/m.room.message/${deliveryId}`,
      { msgtype: "m.text", body: bounded(textOf(event)), "m.mentions": {} },
    ),
    method: "PUT",
    headers: { ...JSON_TYPE, Authorization: `Bearer ${access_token}` },
  }),
};

const JSON_TYPE = { "Content-Type": "application/json" };

export function requestOf(
  provider: Exclude<Provider, "email">,
  config: ChannelConfig,
  sending: Sending,
): OutboundRequest {
  return REQUESTS[provider](config, sending);
}

function post(url: string, body: unknown): OutboundRequest {
  return { url, method: "POST", headers: JSON_TYPE, body: JSON.stringify(body) };
}

function bounded(text: string): string {
  return text.length <= TEXT_LENGTH_MAX ? text : `${text.slice(0, TEXT_LENGTH_MAX)}…`;
}

function escaped(text: string, special: RegExp): string {
  return text.replace(special, "\\$&");
}

/** As Slack has it: three characters, and no quotes (https://docs.slack.dev/messaging/formatting-message-text). */
function inHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function inCard(text: string): string {
  return escaped(inHtml(text), /[\\*_~`[\]()#]/g);
}
