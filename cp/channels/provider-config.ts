// What each provider has to be told, and what of it is right.

import { AppError } from "../errors.ts";
import { parseEmail } from "../mail-address.ts";
import type { ChannelConfig, Provider } from "./channel.ts";

const RECIPIENTS_MAX = 10;
const WEBHOOK_SECRET = /^[\x21-\x7e]{16,256}$/;
const GUID = "[0-9a-fA-F-]{36}";

interface Field {
  readonly isOptional?: boolean;
  /** The value as it is kept; throws `invalid_request` without the field's name. */
  readonly parse: (text: string) => string;
}

const FIELDS: Readonly<Record<Provider, Readonly<Record<string, Field>>>> = {
  webhook: {
    url: { parse: (text) => parseUrl(text).href },
    secret: { isOptional: true, parse: parseSecret },
  },
  discord: {
    webhook_url: url(/^\/api\/(v\d+\/)?webhooks\/\d+\/[\w-]+\/?$/, "…/api/webhooks/{id}/{token}"),
  },
  slack: { webhook_url: url(/^\/services\/\w+\/\w+\/\w+\/?$/, "…/services/T…/B…/…") },
  teams: {
    webhook_url: url(
      new RegExp(`/${GUID}@${GUID}/[^/]+/[0-9a-fA-F]{32}/${GUID}(/[\\w-]+)?/?$`),
      "…/{group}@{tenant}/IncomingWebhook/{id}/{owner}",
    ),
  },
  googlechat: {
    webhook_url: {
      parse: (text) => {
        const given = parseUrl(text);
        if (given.hostname === "chat.googleapis.com" && given.protocol === "https:") {
          return given.href;
        }
        throw invalid("must be a URL of https://chat.googleapis.com");
      },
    },
  },
  telegram: {
    bot_token: { parse: matching(/^\d{1,20}:[\w-]{20,100}$/, "must be like 123456:ABC-DEF…") },
    chat_id: { parse: matching(/^(-?\d{1,20}|@\w{4,32})$/, "must be a number, or like @channel") },
  },
  matrix: {
    homeserver_url: { parse: parseBaseUrl },
    access_token: { parse: matching(/^[\x21-\x7e]{1,1024}$/, "must be an access token") },
    room_id: { parse: matching(/^![\x21-\x7e]{1,254}$/, "must be like !room:example.org") },
  },
  email: { to: { parse: parseRecipients } },
};

/**
 * The fields of the provider, each in one form. Throws `invalid_request` that names the field, for one that is missing,
 * wrong, or none of the provider's.
 */
export function parseConfig(provider: Provider, given: ChannelConfig): Record<string, string> {
  const fields = FIELDS[provider];
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(fields, name)) {
      throw new AppError("invalid_request", `config.${fieldShown(name)}: ${provider} has none`);
    }
  }
  const parsed = Object.entries(fields).flatMap(([name, { isOptional, parse }]) => {
    const text = (given[name] ?? "").trim();
    if (text === "" && isOptional === true) return [];
    try {
      if (text === "") throw invalid("is missing");
      return [[name, parse(text)]];
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      const { message } = error;
      throw new AppError("invalid_request", `config.${name}: ${message.replace(/^email: /, "")}`);
    }
  });
  return Object.fromEntries(parsed);
}

/** The mail addresses of a channel, which are those of members of its team. */
export function recipientsOf(config: ChannelConfig): string[] {
  return (config.to ?? "").split(",").filter((address) => address !== "");
}

function invalid(message: string): AppError {
  return new AppError("invalid_request", message);
}

function fieldShown(name: string): string {
  return /^\w{1,64}$/.test(name) ? name : "?";
}

function parseUrl(text: string): URL {
  const given = URL.parse(text);
  if (given === null || !["http:", "https:"].includes(given.protocol)) {
    throw invalid("must be a URL that begins with https:// or http://");
  }
  if (given.username !== "" || given.password !== "") {
    throw invalid("must have no user or password");
  }
  given.hash = "";
  return given;
}

/** What paths are put behind. */
function parseBaseUrl(text: string): string {
  const given = parseUrl(text);
  if (given.search !== "") throw invalid("must have no query");
  return given.href.replace(/\/+$/, "");
}

function url(path: RegExp, shape: string): Field {
  return {
    parse: (text) => {
      const given = parseUrl(text);
      if (!path.test(given.pathname.replaceAll("%40", "@"))) throw invalid(`must be like ${shape}`);
      return given.href;
    },
  };
}

function matching(pattern: RegExp, expectation: string): Field["parse"] {
  return (text) => {
    if (!pattern.test(text)) throw invalid(expectation);
    return text;
  };
}

function parseSecret(text: string): string {
  const isEncoded = text.startsWith("whsec_");
  const encoded = text.slice("whsec_".length);
  const isRight = !isEncoded || /^[A-Za-z0-9+/]{22,}={0,2}$/.test(encoded);
  if (WEBHOOK_SECRET.test(text) && isRight) return text;
  throw invalid("must have 16 to 256 visible ASCII characters; behind `whsec_` Base64");
}

function parseRecipients(text: string): string {
  const addresses = [...new Set(text.split(",").map(parseEmail))];
  if (addresses.length > RECIPIENTS_MAX) throw invalid(`at most ${RECIPIENTS_MAX} addresses`);
  return addresses.join(",");
}
