// What the control plane stands on, looked at before it starts: each failure is one sentence that names the
// setting, says what is wrong, and repeats no secret.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { access, constants, mkdir, readFile } from "node:fs/promises";
import { Redis } from "ioredis";
import { reachFailure } from "../proto/address-failure.ts";
import type { TlsConfig } from "./config.ts";

const REDIS_TIMEOUT_MS = 5_000;

/** SQLSTATEs, and names that postgres.js has for states of a connection. */
const DATABASE_FAILURES: Readonly<Record<string, string>> = {
  "28000": "PostgreSQL refuses its user",
  "28P01": "PostgreSQL refuses its user or password",
  "3D000": "there is no database of that name; make one with createdb",
  "42501": "its user may not make tables there",
  "53300": "PostgreSQL has no connection left",
  "57P03": "PostgreSQL is starting; try again",
  CONNECT_TIMEOUT: "what listens there does not answer as PostgreSQL",
  CONNECTION_CLOSED: "what listens there hangs up",
};

/** What a query on the database that `url` names has failed with. */
export function databaseFailure(url: string, cause: unknown): Error {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const reason = DATABASE_FAILURES[code] ?? reachFailure(cause);
  // Its own words, as of a migration that failed, name no credentials.
  const words = reason ?? (cause instanceof Error ? cause.message : String(cause));
  return new Error(`DATABASE_URL: ${placeOf(url)}: ${words}`, { cause });
}

/** Throws unless Redis answers and takes the user, password and database of the URL. */
export async function checkRedis(url: string): Promise<void> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: REDIS_TIMEOUT_MS,
    commandTimeout: REDIS_TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  const failures: unknown[] = [];
  redis.on("error", (error) => failures.push(error));
  try {
    await redis.connect();
    await redis.ping();
    // A database that does not exist is only heard of, and the first one used in its place.
    if (failures.length > 0) throw failures[0];
  } catch (error) {
    const cause = failures[0] ?? error;
    throw new Error(`REDIS_URL: ${placeOf(url)}: ${redisReason(cause)}`, { cause });
  } finally {
    redis.disconnect();
  }
}

function redisReason(error: unknown): string {
  const reason = reachFailure(error);
  // What speaks another protocol resets the connection or ends it, as it happens.
  const isReset = error instanceof Error && "code" in error && error.code === "ECONNRESET";
  if (reason !== null && !isReset) return reason;
  const message = error instanceof Error ? error.message : String(error);
  if (/^(WRONGPASS|NOAUTH|ERR AUTH)/.test(message)) return "Redis refuses its user or password";
  if (/DB index/.test(message)) return "Redis has no database of that number";
  return "what listens there does not answer as Redis";
}

/** Throws unless the files hold a certificate and its key. */
export async function checkTls({ certFile, keyFile }: TlsConfig): Promise<void> {
  const certificate = await parsed("WRENN_TLS_CERT", certFile, (pem) => new X509Certificate(pem));
  const key = await parsed("WRENN_TLS_KEY", keyFile, (pem) => createPrivateKey(pem));
  if (!certificate.checkPrivateKey(key)) {
    throw new Error(`WRENN_TLS_KEY: ${keyFile} is the key of another certificate than ${certFile}`);
  }
}

/** The certificates in that file, in PEM; throws unless it holds one. */
export async function readMailCa(path: string): Promise<string> {
  return await parsed("SMTP_CA_FILE", path, (pem) => {
    new X509Certificate(pem);
    return pem.toString();
  });
}

async function parsed<T>(setting: string, path: string, parse: (pem: Buffer) => T): Promise<T> {
  const pem = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new Error(`${setting}: ${path} can't be read (${cause.code})`, { cause });
  });
  try {
    return parse(pem);
  } catch (cause) {
    throw new Error(`${setting}: ${path} is not what it must be, in PEM`, { cause });
  }
}

/** Makes the directory that mails are written to; throws unless that can be done. */
export async function checkMailDir(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await access(dir, constants.W_OK);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : cause;
    throw new Error(`WRENN_MAIL_DIR: ${dir} can't be written to (${code})`, { cause });
  }
}

/** Without user, password and parameters. */
function placeOf(url: string): string {
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`;
}
