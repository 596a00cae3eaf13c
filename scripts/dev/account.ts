// The administrator, team, API key and host of a development platform, made through its public API.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

export interface Account {
  readonly email: string;
  readonly password: string;
  readonly apiKey: string;
}

/** A JSON answer of the API; throws with the API's own sentence on any error status. */
export async function api<T>(
  base: string,
  path: string,
  options: {
    method?: string;
    token?: string;
    apiKey?: string;
    body?: unknown;
    /** How long the answer to something that takes its time may be waited for. */
    waitSec?: number;
  } = {},
): Promise<T> {
  const response = await fetch(`${base}${path}`, {
    method: options.method ?? "GET",
    headers: {
      ...(options.body === undefined ? {} : { "content-type": "application/json" }),
      ...(options.token ? { authorization: `Bearer ${options.token}` } : {}),
      ...(options.apiKey ? { "x-api-key": options.apiKey } : {}),
      ...(options.waitSec === undefined ? {} : { prefer: `wait=${options.waitSec}` }),
    },
    ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    signal: AbortSignal.timeout(120_000),
  });
  const text = await response.text();
  if (!response.ok)
    throw new Error(`${options.method ?? "GET"} ${path}: ${response.status} ${text}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/**
 * Signs the administrator up and follows the activation mail that the control plane wrote as a file.
 * The first active user of an installation is its administrator. Returns a JWT.
 */
export async function signUp(
  base: string,
  options: { email: string; password: string; name: string; mailDir: string },
): Promise<string> {
  await api(base, "/v1/auth/signup", {
    method: "POST",
    body: { email: options.email, password: options.password, name: options.name },
  });
  const token = await activationToken(options.mailDir, options.email);
  const answer = await api<{ token: string }>(base, "/v1/auth/activate", {
    method: "POST",
    body: { token },
  });
  return answer.token;
}

export async function logIn(base: string, email: string, password: string): Promise<string> {
  const answer = await api<{ token: string }>(base, "/v1/auth/login", {
    method: "POST",
    body: { email, password },
  });
  return answer.token;
}

export async function createApiKey(base: string, token: string, name: string): Promise<string> {
  const answer = await api<{ key: string }>(base, "/v1/api-keys", {
    method: "POST",
    token,
    body: { name },
  });
  return answer.key;
}

/** False: the database knows no such key. */
export async function isKeyGood(base: string, apiKey: string): Promise<boolean> {
  const headers = { "x-api-key": apiKey };
  const signal = AbortSignal.timeout(30_000);
  const response = await fetch(`${base}/v1/capsules`, { headers, signal });
  return response.status !== 401;
}

/** A one-time token with which one agent may register as a host of this platform. */
export async function createHost(base: string, token: string): Promise<string> {
  const answer = await api<{ registration_token: string }>(base, "/v1/hosts", {
    method: "POST",
    token,
    body: { type: "regular", provider: "local" },
  });
  return answer.registration_token;
}

/** The token of the newest activation mail to that address; mails are written behind the request. */
async function activationToken(mailDir: string, email: string): Promise<string> {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; await Bun.sleep(20)) {
    for (const file of await newestFirst(mailDir)) {
      const mail = await readFile(join(mailDir, file), "utf8");
      // Mails are quoted-printable where a line is long: undo its soft line breaks and escapes.
      const text = mail.replace(/=\r?\n/g, "").replaceAll("=3D", "=");
      const token = /activate\?token=([0-9a-f]{32,64})/.exec(text)?.[1];
      if (token && text.includes(email)) return token;
    }
  }
  throw new Error(`No activation mail for ${email} in ${mailDir}`);
}

async function newestFirst(dir: string): Promise<string[]> {
  const files = await readdir(dir).catch(() => []);
  const times = await Promise.all(
    files.map(async (file) => ({ file, at: (await stat(join(dir, file))).mtimeMs })),
  );
  return times.sort((a, b) => b.at - a.at).map(({ file }) => file);
}
