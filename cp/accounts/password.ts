// Passwords at rest: argon2id. bcrypt, which the first Wrenn used, ignores or refuses what is past 72
// bytes and costs attackers no memory; its hashes still verify, and
// are replaced when their password is shown.

import { password as bunPassword } from "bun";
import { AppError } from "../errors.ts";

export const PASSWORD_BYTES_MIN = 8;
/** Hashing reads it all: a bound on what a stranger can make us do. */
export const PASSWORD_LENGTH_MAX = 1024;

/** OWASP's minimum for argon2id (19 MiB, two passes): 46 ms on the reference machine. */
const ARGON2ID = { algorithm: "argon2id", memoryCost: 19_456, timeCost: 2 } as const;

/**
 * Of a random password nobody knows, with the cost of `ARGON2ID`: what an account without a password
 * is checked against, so that the time of an answer doesn't tell whether the account exists.
 */
const NOBODYS_HASH =
  "$argon2id$v=19$m=19456,t=2,p=1$" +
  "gajC92xwGLFWbR+jd4XIK4+/0UoIe/BJNpI16aPnpT4$f+FAeIkcM3kfHMdQX/N1jJ1vfI2O1jRvivZzVIrykks";

/** Throws `invalid_request` for one that is too short, naming the field that it came in. */
export function assertPassword(password: string, field = "password"): void {
  if (Buffer.byteLength(password) >= PASSWORD_BYTES_MIN) return;
  const message = `${field}: must have at least ${PASSWORD_BYTES_MIN} bytes`;
  throw new AppError("invalid_request", message);
}

/** Hashes on a thread of its own, as does `verifyPassword`: nobody else waits. */
export async function hashPassword(password: string): Promise<string> {
  return await bunPassword.hash(password, ARGON2ID);
}

/** Whether the hash is the first Wrenn's. */
export function isOldHash(hash: string): boolean {
  return hash.startsWith("$2");
}

/** Whether it is the password; with no hash it takes as long and is false. */
export async function verifyPassword(password: string, hash: string | null): Promise<boolean> {
  const isMatch = await bunPassword.verify(password, hash ?? NOBODYS_HASH);
  return isMatch && hash !== null;
}
