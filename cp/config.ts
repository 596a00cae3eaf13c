// Settings: the environment, checked once, as typed values.

import { isIP } from "node:net";
import { MEMORY_MB_MAX, MEMORY_MB_MIN, VCPUS_MAX } from "../proto/hostagent/bounds.ts";
import { SCRAPE_TOKEN_LENGTH_MIN } from "../proto/metrics/scrape-token.ts";
import { AddressGuard } from "./address-guard.ts";
import { TrustedProxies } from "./client-address.ts";
import { LOG_LEVELS, type LogLevel } from "./log.ts";
import { parseEmail } from "./mail-address.ts";
import { type OauthSettings, type OauthTexts, parseOauth } from "./oauth-settings.ts";
import { TEAM_LIMIT_MAX, type TeamLimits } from "./team-limits.ts";

const TEMPLATE_NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;
const DOMAIN_NAME = /^[a-z0-9-]+(\.[a-z0-9-]+)*$/;
const HOST_NAME = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$/;
const MAIL_ADDRESS = /^[^\s@<>,]+@[^\s@<>,]+$/;
const JWT_SECRET_LENGTH_MIN = 32;
/** On it SMTP is TLS from the first byte (RFC 8314, 3.3). */
const SMTP_TLS_PORT = 465;

export interface Config {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly listen: { readonly hostname: string; readonly port: number };
  readonly jwtSecret: string;
  /** Of the authority that certifies agents and control planes: PEM, or absolute paths of files in PEM. */
  readonly authority: { readonly cert: string; readonly key: string };
  /** 32 bytes. */
  readonly encryptionKey: Uint8Array;
  /** Where people reach the control plane, without a trailing slash. */
  readonly publicUrl: string;
  /** Of the public URL, and of other addresses that our pages are served at. */
  readonly ownOrigins: ReadonlySet<string>;
  /** What an omitted template and the old name `minimal` mean. */
  readonly defaultTemplate: string;
  /** What a create without them gets. */
  readonly defaultVcpus: number;
  readonly defaultMemoryMb: number;
  /** Of teams of which an administrator said nothing else. */
  readonly teamLimits: TeamLimits;
  /** What becomes of capsules that hosts have and no record knows. */
  readonly unknownCapsules: "quarantine" | "destroy";
  /** Ports of capsules are hosts below it: `{port}-{capsule id}.{domain}`. */
  readonly proxyDomain: string;
  /** Addresses and networks of proxies in front of this one, besides those on this machine. */
  readonly trustedProxies: readonly string[];
  /** Null: no TLS here, maybe in front. */
  readonly tls: TlsConfig | null;
  readonly mail: MailConfig;
  readonly oauth: OauthSettings;
  /** Whose account is made the administrator while there is none; null: the first one that is activated. */
  readonly firstAdministrator: string | null;
  /** What a reader of the control plane's own metrics must show; null: nobody may read them. */
  readonly metricsToken: string | null;
  /** How long it is kept who changed what. */
  readonly auditRetentionDays: number;
  /** How long events are kept, and what became of their deliveries. */
  readonly eventRetentionDays: number;
  readonly channels: ChannelSettings;
  readonly logLevel: LogLevel;
}

export interface ChannelSettings {
  /** Networks of a special purpose that channels may lead to. */
  readonly allowedNetworks: readonly string[];
  /** 32 bytes each: the first one encrypts what channels are configured with, all open it. */
  readonly keys: readonly [Uint8Array, ...Uint8Array[]];
  /** Where Telegram's Bot API is, without a trailing slash. */
  readonly telegramUrl: string;
}

export interface TlsConfig {
  /** Files in PEM: the certificate with its chain, and its key. */
  readonly certFile: string;
  readonly keyFile: string;
  readonly listen: Config["listen"];
}

export type MailConfig =
  | { readonly kind: "smtp"; readonly smtp: SmtpSettings }
  | { readonly kind: "files"; readonly dir: string }
  | { readonly kind: "none" };

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the database is; all that migrating needs. Throws naming the variable. */
export function loadDatabaseUrl(env: Environment): string {
  return parseUrl(env, "DATABASE_URL", ["postgres:", "postgresql:"]);
}

/** Throws an error that names the variable and says what it must be; never what it was. */
export function loadConfig(env: Environment): Config {
  const listen = parseListenAddress(env, "WRENN_CP_LISTEN_ADDR", ":8080");
  const publicUrl = parsePublicUrl(env, listen.port);
  return {
    databaseUrl: loadDatabaseUrl(env),
    redisUrl: parseUrl(env, "REDIS_URL", ["redis:", "rediss:"]),
    listen,
    jwtSecret: parseSecret(env),
    authority: {
      cert: parsePem(env, "WRENN_CA_CERT"),
      key: parsePem(env, "WRENN_CA_KEY"),
    },
    encryptionKey: parseEncryptionKey(env),
    publicUrl,
    ownOrigins: parseOwnOrigins(env, publicUrl),
    defaultTemplate: parseDefaultTemplate(env),
    defaultVcpus: parseNumber(env, "WRENN_DEFAULT_VCPUS", { standard: 2, min: 1, max: VCPUS_MAX }),
    defaultMemoryMb: parseNumber(env, "WRENN_DEFAULT_MEMORY_MB", {
      ...{ standard: 2048, min: MEMORY_MB_MIN, max: MEMORY_MB_MAX },
    }),
    teamLimits: parseTeamLimits(env),
    unknownCapsules: parseUnknownCapsules(env),
    proxyDomain: parseProxyDomain(env),
    trustedProxies: parseTrustedProxies(env),
    tls: parseTls(env),
    mail: parseMail(env),
    oauth: parseOauth(oauthTexts(env), publicUrl),
    firstAdministrator: parseFirstAdministrator(env),
    metricsToken: parseMetricsToken(env),
    auditRetentionDays: parseNumber(env, "WRENN_AUDIT_RETENTION_DAYS", {
      ...{ standard: 365, min: 1, max: 36_500 },
    }),
    eventRetentionDays: parseNumber(env, "WRENN_EVENT_RETENTION_DAYS", {
      ...{ standard: 30, min: 1, max: 3650 },
    }),
    channels: parseChannels(env),
    logLevel: parseLogLevel(env),
  };
}

function parseTeamLimits(env: Environment): TeamLimits {
  const bounds = { standard: 0, min: 0, max: TEAM_LIMIT_MAX };
  return {
    capsules: parseNumber(env, "WRENN_TEAM_CAPSULES", bounds),
    vcpus: parseNumber(env, "WRENN_TEAM_VCPUS", bounds),
    memoryMb: parseNumber(env, "WRENN_TEAM_MEMORY_MB", bounds),
    diskMb: parseNumber(env, "WRENN_TEAM_DISK_MB", bounds),
    snapshots: parseNumber(env, "WRENN_TEAM_SNAPSHOTS", bounds),
    snapshotMb: parseNumber(env, "WRENN_TEAM_SNAPSHOT_MB", bounds),
    requestsPerMinute: parseNumber(env, "WRENN_TEAM_REQUESTS_PER_MINUTE", bounds),
  };
}

function parseUrl(env: Environment, name: string, protocols: readonly string[]): string {
  const text = env[name];
  if (!text) throw new Error(`${name} is not set`);
  const url = URL.parse(text);
  if (url === null || !protocols.includes(url.protocol)) {
    throw new Error(`${name} must be a URL that begins with ${protocols[0]}//`);
  }
  return text;
}

function parseListenAddress(env: Environment, name: string, standard: string): Config["listen"] {
  const text = env[name] || standard;
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]*):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535) {
    throw new Error(`${name} must be host:port or :port`);
  }
  return { hostname: (match[1] ?? "").replace(/^\[|\]$/g, "") || "0.0.0.0", port };
}

function parseUnknownCapsules(env: Environment): Config["unknownCapsules"] {
  const policy = env.WRENN_UNKNOWN_CAPSULES || "quarantine";
  if (policy !== "quarantine" && policy !== "destroy") {
    throw new Error("WRENN_UNKNOWN_CAPSULES must be quarantine or destroy");
  }
  return policy;
}

function parseDefaultTemplate(env: Environment): string {
  const name = env.WRENN_DEFAULT_TEMPLATE || "minimal-ubuntu";
  if (!TEMPLATE_NAME.test(name)) {
    throw new Error("WRENN_DEFAULT_TEMPLATE must be a template's name, like minimal-debian");
  }
  return name;
}

function parseNumber(
  env: Environment,
  name: string,
  { standard, min, max }: { standard: number; min: number; max: number },
): number {
  const text = env[name] || String(standard);
  const number = Number(text);
  if (!/^[0-9]+$/.test(text) || number < min || number > max) {
    throw new Error(`${name} must be a number from ${min} to ${max}`);
  }
  return number;
}

function parseProxyDomain(env: Environment): string {
  const domain = (env.WRENN_PROXY_DOMAIN || "wrenn.localhost").toLowerCase();
  if (!DOMAIN_NAME.test(domain) || isIP(domain) !== 0) {
    throw new Error("WRENN_PROXY_DOMAIN must be a domain name without a port");
  }
  return domain;
}

function parseTrustedProxies(env: Environment): string[] {
  const texts = (env.WRENN_TRUSTED_PROXIES ?? "").split(",").map((text) => text.trim());
  const networks = texts.filter((text) => text !== "");
  try {
    new TrustedProxies(networks);
    return networks;
  } catch (cause) {
    throw new Error(
      "WRENN_TRUSTED_PROXIES must be addresses or networks like 10.0.0.0/8, with commas between",
      { cause },
    );
  }
}

function parseTls(env: Environment): TlsConfig | null {
  const { WRENN_TLS_CERT: certFile, WRENN_TLS_KEY: keyFile } = env;
  if (!certFile && !keyFile) return null;
  if (!certFile || !keyFile) throw new Error("WRENN_TLS_CERT and WRENN_TLS_KEY go together");
  return { certFile, keyFile, listen: parseListenAddress(env, "WRENN_TLS_LISTEN_ADDR", ":8443") };
}

function parseSecret(env: Environment): string {
  const secret = env.JWT_SECRET ?? "";
  if (secret.length < JWT_SECRET_LENGTH_MIN) {
    throw new Error(`JWT_SECRET must have at least ${JWT_SECRET_LENGTH_MIN} characters`);
  }
  return secret;
}

/** The text itself, or the path of a file with it. */
function parsePem(env: Environment, name: "WRENN_CA_CERT" | "WRENN_CA_KEY"): string {
  const text = (env[name] ?? "").trim();
  if (text.startsWith("-----BEGIN ") || text.startsWith("/")) return text;
  const advice = "wrenn-cp make-ca <directory> makes both";
  throw new Error(`${name} must be PEM, or the absolute path of a file in PEM; ${advice}`);
}

function parseEncryptionKey(env: Environment): Uint8Array {
  const text = env.WRENN_ENCRYPTION_KEY ?? "";
  if (!/^[0-9a-fA-F]{64}$/.test(text)) {
    throw new Error("WRENN_ENCRYPTION_KEY must be 64 hexadecimal digits");
  }
  return Uint8Array.fromHex(text);
}

function parseChannels(env: Environment): ChannelSettings {
  const allowedNetworks = listed(env.WRENN_CHANNEL_ALLOW_CIDRS);
  try {
    new AddressGuard(allowedNetworks);
  } catch (cause) {
    throw new Error(
      "WRENN_CHANNEL_ALLOW_CIDRS must be networks like 10.0.0.0/8, with commas between",
      { cause },
    );
  }
  const keys = listed(env.WRENN_CHANNEL_KEYS);
  if (!keys.every((text) => /^[0-9a-fA-F]{64}$/.test(text))) {
    throw new Error("WRENN_CHANNEL_KEYS must be 64 hexadecimal digits each, with commas between");
  }
  const [first, ...others] = keys.map((text) => Uint8Array.fromHex(text));
  const last = parseEncryptionKey(env);
  const telegramUrl = env.WRENN_TELEGRAM_URL || "https://api.telegram.org";
  if (!["http:", "https:"].includes(URL.parse(telegramUrl)?.protocol ?? "")) {
    throw new Error("WRENN_TELEGRAM_URL must be a URL that begins with http:// or https://");
  }
  return {
    allowedNetworks,
    keys: first === undefined ? [last] : [first, ...others, last],
    telegramUrl: telegramUrl.replace(/\/+$/, ""),
  };
}

function listed(text = ""): string[] {
  return text.split(",").flatMap((part) => (part.trim() === "" ? [] : [part.trim()]));
}

function parsePublicUrl(env: Environment, port: number): string {
  const text = env.CP_PUBLIC_URL || `http://localhost:${port}`;
  const url = URL.parse(text);
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    throw new Error("CP_PUBLIC_URL must be a URL that begins with http:// or https://");
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new Error("CP_PUBLIC_URL must have no user, password, ? or #: links begin with it");
  }
  return text.replace(/\/+$/, "");
}

function parseOwnOrigins(env: Environment, publicUrl: string): ReadonlySet<string> {
  const others = (env.WRENN_OWN_ORIGINS ?? "").split(",").filter((text) => text.trim() !== "");
  const origins = others.map((text) => {
    const url = URL.parse(text.trim());
    if (url === null || !["http:", "https:"].includes(url.protocol) || url.pathname !== "/") {
      throw new Error(
        "WRENN_OWN_ORIGINS must be origins like https://host:port, with commas between",
      );
    }
    return url.origin;
  });
  return new Set([new URL(publicUrl).origin, ...origins]);
}

function parseMail(env: Environment): MailConfig {
  if (env.SMTP_HOST) return { kind: "smtp", smtp: parseSmtp(env, env.SMTP_HOST) };
  return env.WRENN_MAIL_DIR ? { kind: "files", dir: env.WRENN_MAIL_DIR } : { kind: "none" };
}

function parseFirstAdministrator(env: Environment): string | null {
  const text = env.WRENN_FIRST_ADMINISTRATOR;
  if (!text) return null;
  try {
    return parseEmail(text);
  } catch (cause) {
    throw new Error("WRENN_FIRST_ADMINISTRATOR must be a mail address", { cause });
  }
}

function oauthTexts(env: Environment): OauthTexts {
  return {
    redirectUrl: env.OAUTH_REDIRECT_URL,
    githubUrl: env.OAUTH_GITHUB_URL,
    githubClientId: env.OAUTH_GITHUB_CLIENT_ID,
    githubClientSecret: env.OAUTH_GITHUB_CLIENT_SECRET,
    openid: env.OAUTH_OPENID_PROVIDERS,
  };
}

/** What is wrong here would be noticed by the first person who signs up and gets no mail. */
function parseSmtp(env: Environment, host: string): SmtpSettings {
  if (!HOST_NAME.test(host) && isIP(host) === 0) {
    throw new Error("SMTP_HOST must be a host's name or address; its port is SMTP_PORT");
  }
  const port = Number(env.SMTP_PORT || 587);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new Error("SMTP_PORT must be a port number");
  }
  const { SMTP_USERNAME: username = "", SMTP_PASSWORD: password = "" } = env;
  if ((username === "") !== (password === "")) {
    throw new Error("SMTP_USERNAME and SMTP_PASSWORD go together");
  }
  const fromEmail = env.SMTP_FROM_EMAIL || "noreply@wrenn.dev";
  if (!MAIL_ADDRESS.test(fromEmail)) {
    throw new Error("SMTP_FROM_EMAIL must be a mail address alone, like noreply@wrenn.dev");
  }
  const security = parseSmtpSecurity(env, { port, username });
  return { host, port, username, password, fromEmail, security, caFile: env.SMTP_CA_FILE || null };
}

/** Credentials go over TLS unless somebody says otherwise. */
function parseSmtpSecurity(
  env: Environment,
  { port, username }: { port: number; username: string },
): SmtpSecurity {
  const usual = port === SMTP_TLS_PORT ? "tls" : username === "" ? "auto" : "starttls";
  const text = env.SMTP_SECURITY || usual;
  const security = SMTP_SECURITIES.find((known) => known === text);
  if (security === undefined) {
    throw new Error(`SMTP_SECURITY must be one of ${SMTP_SECURITIES.join(", ")}`);
  }
  return security;
}

function parseMetricsToken(env: Environment): string | null {
  const token = env.WRENN_METRICS_TOKEN;
  if (!token) return null;
  if (token.length < SCRAPE_TOKEN_LENGTH_MIN) {
    throw new Error(`WRENN_METRICS_TOKEN must have at least ${SCRAPE_TOKEN_LENGTH_MIN} characters`);
  }
  return token;
}

function parseLogLevel(env: Environment): LogLevel {
  const text = env.LOG_LEVEL || "info";
  const level = LOG_LEVELS.find((known) => known === text);
  if (level === undefined) throw new Error(`LOG_LEVEL must be one of ${LOG_LEVELS.join(", ")}`);
  return level;
}

/** `tls` from the first byte, `starttls` or not at all, `auto` where the server offers it, or `none`. */
const SMTP_SECURITIES = ["auto", "starttls", "tls", "none"] as const;
export type SmtpSecurity = (typeof SMTP_SECURITIES)[number];

export interface SmtpSettings {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly fromEmail: string;
  readonly security: SmtpSecurity;
  /** In PEM, what the server's certificate is checked with; null: what the system trusts. */
  readonly caFile: string | null;
}
