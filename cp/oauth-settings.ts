// Who people may sign in by, as the settings say.

import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

export interface OauthSettings {
  /** Where our pages are, without a trailing slash. */
  readonly pagesUrl: string;
  readonly github: GithubSettings | null;
  readonly openid: readonly OpenidSettings[];
}

export interface GithubSettings {
  /** Without a trailing slash. */
  readonly url: string;
  readonly clientId: string;
  readonly clientSecret: string;
}

export interface OpenidSettings {
  /** In paths and in the database. */
  readonly name: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
}

export interface OauthTexts {
  readonly redirectUrl: string | undefined;
  readonly githubUrl: string | undefined;
  readonly githubClientId: string | undefined;
  readonly githubClientSecret: string | undefined;
  readonly openid: string | undefined;
}

const NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

const text = Type.String({ minLength: 1 });
const OpenidList = Type.Array(
  Type.Object(
    { name: text, issuer: text, client_id: text, client_secret: text },
    { additionalProperties: false },
  ),
);

/** Throws an error that names the variable and says what it must be; never what it was. */
export function parseOauth(texts: OauthTexts, publicUrl: string): OauthSettings {
  return {
    pagesUrl: parseAddress(texts.redirectUrl || publicUrl, "OAUTH_REDIRECT_URL"),
    github: parseGithub(texts),
    openid: parseOpenid(texts.openid),
  };
}

function parseGithub(texts: OauthTexts): GithubSettings | null {
  const { githubClientId: clientId, githubClientSecret: clientSecret } = texts;
  const url = parseProvider(texts.githubUrl || "https://github.com", "OAUTH_GITHUB_URL");
  if (!clientId && !clientSecret) return null;
  if (!clientId || !clientSecret) {
    throw new Error("OAUTH_GITHUB_CLIENT_ID and OAUTH_GITHUB_CLIENT_SECRET go together");
  }
  return { url, clientId, clientSecret };
}

function parseOpenid(json: string | undefined): OpenidSettings[] {
  if (!json) return [];
  const list = parseList(json);
  const names = new Set(list.map(({ name }) => name));
  if (names.size < list.length || names.has("github")) {
    throw new Error("OAUTH_OPENID_PROVIDERS must give each provider another name, none github");
  }
  return list.map(({ name, issuer, client_id: clientId, client_secret: clientSecret }) => {
    if (!NAME.test(name)) {
      throw new Error("OAUTH_OPENID_PROVIDERS: a name must be of a-z, 0-9 and -, like corp");
    }
    parseProvider(issuer, "OAUTH_OPENID_PROVIDERS: issuer");
    return { name, issuer, clientId, clientSecret };
  });
}

function parseList(json: string) {
  try {
    return Value.Parse(OpenidList, JSON.parse(json));
  } catch {
    throw new Error(
      'OAUTH_OPENID_PROVIDERS must be JSON: [{"name":…,"issuer":…,"client_id":…,"client_secret":…}]',
    );
  }
}

/** Secrets go there, so nobody may listen. */
function parseProvider(address: string, name: string): string {
  const url = parseAddress(address, name);
  const { protocol, hostname } = new URL(url);
  if (protocol === "https:" || LOOPBACK.test(hostname)) return url;
  throw new Error(`${name} must begin with https://`);
}

function parseAddress(address: string, name: string): string {
  const url = URL.parse(address);
  const isPlain = url !== null && !url.username && !url.password && !url.search && !url.hash;
  if (!isPlain || !["http:", "https:"].includes(url.protocol)) {
    throw new Error(`${name} must be a URL like https://host, without user, password, ? and #`);
  }
  return address.replace(/\/+$/, "");
}
