// What a development platform is made of: where it is, its secrets and ports, what its user chose, and the
// programs' environments that follow from these. All of it is kept in files that only root reads, so that
// whoever finds the platform later finds it as it was started.

import { randomBytes } from "node:crypto";
import { chown, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Authority } from "../../cp/certificates/authority.ts";
import type { Account } from "./account.ts";
import type { DevDir } from "./dev-dir.ts";
import type { AgentPorts, Ports } from "./ports.ts";
import { Processes } from "./processes.ts";
import { tlsPaths } from "./tls.ts";

export const REPOSITORY = resolve(import.meta.dirname, "../..");
/** Programs find every name below localhost on this machine (RFC 6761). */
export const PROXY_DOMAIN = "wrenn.localhost";
/** Settings of the programs that a caller's environment may change; the Makefile lets them through sudo. */
export const AGENT_CHOICES = [
  "WRENN_COW",
  "WRENN_VMM",
  "WRENN_WARM",
  "WRENN_UID_BASE",
  "LOG_LEVEL",
] as const;

export interface Choices {
  /** Services to use as they are; null: private ones. */
  readonly databaseUrl: string | null;
  readonly redisUrl: string | null;
  /** False where the data is thrown away anyway: tests. */
  readonly durable: boolean;
  /** Of the agent; what is not set has the agent's default. */
  readonly agent: Readonly<Record<string, string>>;
}

/** A platform with services of its own and the defaults of everything. */
export const PRIVATE: Choices = { databaseUrl: null, redisUrl: null, durable: true, agent: {} };

export interface Secrets {
  readonly jwtSecret: string;
  readonly encryptionKey: string;
  readonly servicePassword: string;
  readonly adminPassword: string;
  readonly metricsToken: string;
  /** Of the authority that certifies its agent and control plane. */
  readonly caCertPem: string;
  readonly caKeyPem: string;
}

/** A platform before it has an account. */
export interface Parts {
  readonly dir: DevDir;
  readonly processes: Processes;
  readonly ports: Ports;
  readonly choices: Choices;
  readonly secrets: Secrets;
  readonly baseUrl: string;
  /** HTTP/2 and HTTP/1.1 over TLS: the API, and ports of capsules below `proxyDomain`. */
  readonly proxyUrl: string;
  readonly proxyDomain: string;
  readonly caCertFile: string;
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly cpEnv: Readonly<Record<string, string>>;
  readonly agentEnv: Readonly<Record<string, string>>;
}

export interface Platform extends Parts {
  readonly account: Account;
}

export function describeParts(o: {
  dir: DevDir;
  ports: Ports;
  choices: Choices;
  secrets: Secrets;
}): Parts {
  const { dir, ports, choices, secrets } = o;
  const baseUrl = `http://localhost:${ports.cp}`;
  const password = secrets.servicePassword;
  const urls = {
    databaseUrl:
      choices.databaseUrl ?? `postgres://wrenn:${password}@127.0.0.1:${ports.postgres}/wrenn`,
    redisUrl: choices.redisUrl ?? `redis://:${password}@127.0.0.1:${ports.redis}/0`,
  };
  return {
    ...o,
    ...urls,
    processes: new Processes(dir.path),
    baseUrl,
    proxyUrl: `https://${PROXY_DOMAIN}:${ports.tls}`,
    proxyDomain: PROXY_DOMAIN,
    caCertFile: tlsPaths(dir.path).caCertFile,
    cpEnv: controlPlaneEnv({ ...o, ...urls, baseUrl }),
    agentEnv: {
      ...agentEnv({ dir, ports, choices: choices.agent }),
      WRENN_CP_URL: baseUrl,
      WRENN_METRICS_TOKEN: secrets.metricsToken,
    },
  };
}

function controlPlaneEnv(o: {
  dir: DevDir;
  ports: Ports;
  secrets: Secrets;
  databaseUrl: string;
  redisUrl: string;
  baseUrl: string;
}): Record<string, string> {
  return {
    DATABASE_URL: o.databaseUrl,
    REDIS_URL: o.redisUrl,
    WRENN_CP_LISTEN_ADDR: `127.0.0.1:${o.ports.cp}`,
    CP_PUBLIC_URL: o.baseUrl,
    JWT_SECRET: o.secrets.jwtSecret,
    WRENN_ENCRYPTION_KEY: o.secrets.encryptionKey,
    WRENN_CA_CERT: o.secrets.caCertPem,
    WRENN_CA_KEY: o.secrets.caKeyPem,
    WRENN_MAIL_DIR: join(o.dir.path, "mail"),
    WRENN_DEFAULT_TEMPLATE: "minimal-debian",
    WRENN_DEFAULT_VCPUS: "1",
    WRENN_DEFAULT_MEMORY_MB: "512",
    WRENN_METRICS_TOKEN: o.secrets.metricsToken,
    WRENN_CHANNEL_ALLOW_CIDRS: "127.0.0.0/8,::1/128",
    WRENN_PROXY_DOMAIN: PROXY_DOMAIN,
    WRENN_TLS_LISTEN_ADDR: `127.0.0.1:${o.ports.tls}`,
    WRENN_TLS_CERT: tlsPaths(o.dir.path).certFile,
    WRENN_TLS_KEY: tlsPaths(o.dir.path).keyFile,
  };
}

export function agentEnv(o: {
  dir: DevDir;
  ports: AgentPorts;
  choices: Choices["agent"];
}): Record<string, string> {
  return {
    ...o.choices,
    WRENN_DIR: o.dir.agentDir,
    WRENN_HOST_LISTEN_ADDR: `127.0.0.1:${o.ports.agent}`,
    WRENN_METRICS_LISTEN_ADDR: `127.0.0.1:${o.ports.agentMetrics}`,
    WRENN_NATIVE_DIR: join(REPOSITORY, "build/native"),
    // Where nobody listens: an agent that only cleans up needs none.
    WRENN_CP_URL: "http://127.0.0.1:9",
  };
}

/** Those of an earlier start, or new ones. Throws when they are lost and the data they belong to is not. */
export async function loadSecrets(dir: string): Promise<Secrets> {
  const path = join(dir, "secrets.json");
  const saved = await readJson<Partial<Secrets>>(path);
  const hasData = (await stat(join(dir, "postgres")).catch(() => null)) !== null;
  if (saved === null && hasData) {
    throw new Error(
      `${path} is gone, and without its passwords and keys the data is of no use: make dev-reset deletes it`,
    );
  }
  const { certPem: caCertPem, keyPem: caKeyPem } = await Authority.make();
  const secrets: Secrets = {
    ...{ caCertPem, caKeyPem },
    jwtSecret: randomBytes(32).toString("hex"),
    encryptionKey: randomBytes(32).toString("hex"),
    servicePassword: randomBytes(16).toString("hex"),
    adminPassword: randomBytes(9).toString("base64url"),
    metricsToken: randomBytes(16).toString("hex"),
    // A directory of an earlier version keeps what it has.
    ...saved,
  };
  await saveJson(path, secrets);
  return secrets;
}

/** Those of an earlier start; throws when there are none. */
export async function savedSecrets(dir: string): Promise<Secrets> {
  const path = join(dir, "secrets.json");
  const saved = await readJson<Secrets>(path);
  if (saved?.caKeyPem === undefined) throw new Error(`${path} holds no certificate authority`);
  return saved;
}

/** Null: there is no such file, or half of one. */
export async function readJson<T>(path: string): Promise<T | null> {
  const text = await readFile(path, "utf8").catch(() => "");
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export async function saveJson(path: string, value: unknown): Promise<void> {
  await writeAside(path, JSON.stringify(value));
}

/**
 * Writes `<dir>/env`, which a shell can source; it belongs to whom DEV_DIR belongs to. It names no database: in
 * a shell that has sourced it, that would be a choice for every later platform.
 */
export async function writeEnvFile(o: Platform): Promise<void> {
  const lines = {
    WRENN_BASE_URL: o.baseUrl,
    WRENN_API_KEY: o.account.apiKey,
    WRENN_PROXY_URL: o.proxyUrl,
    // To clients, unlike to the control plane, it is all that follows a capsule's id in the URL of a port.
    WRENN_PROXY_DOMAIN: `${o.proxyDomain}:${o.ports.cp}`,
    WRENN_CA_CERT_FILE: o.caCertFile,
    WRENN_METRICS_TOKEN: o.secrets.metricsToken,
    WRENN_AGENT_METRICS_URL: `http://127.0.0.1:${o.ports.agentMetrics}`,
    WRENN_ADMIN_EMAIL: o.account.email,
    WRENN_ADMIN_PASSWORD: o.account.password,
  };
  const text = Object.entries(lines).map(([name, value]) => `export ${name}='${value}'\n`);
  const path = join(o.dir.path, "env");
  await writeAside(path, text.join(""));
  const { uid, gid } = await stat(o.dir.path);
  await chown(path, uid, gid);
}

async function writeAside(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}
