// The running platform that end-to-end tests use: the one in $DEV_DIR, or the repository's .dev.

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createApiKey, signUp } from "../../scripts/dev/account.ts";
import { attachPlatform } from "../../scripts/dev/platform.ts";
import type { Platform } from "../../scripts/dev/settings.ts";
import { Client } from "./client.ts";

/** The platform with everything needed to kill and restart its parts. */
export function platform(): Promise<Platform> {
  const home = process.env.DEV_DIR ?? join(import.meta.dirname, "../../.dev");
  return attachPlatform(resolve(home));
}

/** The variables that a shell has which sourced the platform's file. */
export async function sourcedEnv(): Promise<Readonly<Record<string, string>>> {
  const { dir } = await platform();
  const text = await readFile(join(dir.path, "env"), "utf8");
  const lines = text.matchAll(/^export (\w+)='(.*)'$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
}

/** A client with the administrator's team's API key. */
export async function adminClient(): Promise<Client> {
  const { baseUrl, account } = await platform();
  return new Client(baseUrl, { "x-api-key": account.apiKey });
}

/** A client of a team made for the test, with a user of its own. */
export async function newTeamClient(): Promise<Client> {
  const { baseUrl, dir } = await platform();
  const jwt = await signUp(baseUrl, {
    email: `${crypto.randomUUID()}@wrenn.localhost`,
    password: "correct horse battery staple",
    name: "Second",
    mailDir: join(dir.path, "mail"),
  });
  return new Client(baseUrl, { "x-api-key": await createApiKey(baseUrl, jwt, "e2e") });
}
