// What the agent proves itself with to the control plane, kept in one file.

import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

const FILE = "host-credentials.json";
/** SHA-256 of the one-time token that they came from. */
const TOKEN_FILE = "registered-with.sha256";

const HostCredentials = Type.Object({
  /** Prefixed form: host-… */
  host_id: Type.String({ pattern: "^host-[0-9a-z]{25}$" }),
  jwt: Type.String({ minLength: 1, maxLength: 8192 }),
  refresh_token: Type.String({ minLength: 1, maxLength: 8192 }),
});
export type HostCredentials = Static<typeof HostCredentials>;

/** Null if the agent has never registered. Throws if the file is not what saveCredentials writes. */
export async function loadCredentials(dir: string): Promise<HostCredentials | null> {
  const path = join(dir, FILE);
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (text === null) return null;
  try {
    return Value.Parse(HostCredentials, JSON.parse(text));
  } catch (cause) {
    throw new Error(`${path} holds no credentials; register the host again`, { cause });
  }
}

/** Replaces the file as a whole, synced: a refresh token that was used up is worth nothing. */
export async function saveCredentials(dir: string, credentials: HostCredentials): Promise<void> {
  await replace(join(dir, FILE), JSON.stringify(credentials));
}

/** Notes the token that gave the credentials, which must be saved: it is good for nothing any more. */
export async function noteUsedToken(dir: string, token: string): Promise<void> {
  await replace(join(dir, TOKEN_FILE), sha256(token));
}

/** Whether a registration with this very token was the last one. */
export async function isUsedToken(dir: string, token: string): Promise<boolean> {
  const file = Bun.file(join(dir, TOKEN_FILE));
  return (await file.exists()) && (await file.text()) === sha256(token);
}

function sha256(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

async function replace(path: string, text: string): Promise<void> {
  const aside = `${path}.new`;
  await rm(aside, { force: true });
  {
    await using file = await open(aside, "wx", 0o600);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(aside, path);
  await using parent = await open(dirname(path));
  await parent.sync();
}

/**
 * The control plane has deleted this host: they are kept beside it, for whoever wants to know which one it was.
 * The capsules stay, and a host that registers again brings them along.
 */
export async function retireCredentials(dir: string): Promise<void> {
  await rename(join(dir, FILE), join(dir, `${FILE}.deleted`));
}
