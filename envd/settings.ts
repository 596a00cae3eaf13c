// What the host has told this guest: who it is, what a process starts with, which token counts.
import { createHash, timingSafeEqual } from "node:crypto";
import { type Identity, identityVariables } from "./identity.ts";

/** The guest's changeable state. It is one object per envd, filled by POST /init. */
export class Settings {
  /** Variables that the host has set for every process. */
  userVars: Readonly<Record<string, string>> = {};
  defaultUser = "root";
  /** Where a process starts and an empty path points to; null means the user's home. */
  defaultWorkdir: string | null = null;
  identity: Identity | null = null;
  /** Time of the newest /init that took effect, in nanoseconds since 1970. */
  updatedAtNs: bigint | null = null;
  #token: string | null = null;

  /** The variables of every process, below those of its own request. */
  get envVars(): Record<string, string> {
    return { ...identityVariables(this.identity), ...this.userVars };
  }

  get token(): string | null {
    return this.#token;
  }

  /** Sets the access token; empty text takes it away. */
  set token(token: string | null) {
    this.#token = token === "" ? null : token;
  }

  /** Whether the text is the access token, in time that does not depend on where they differ. */
  isToken(candidate: string | null): boolean {
    return this.#token !== null && candidate !== null && equalText(this.#token, candidate);
  }
}

/** Compares in constant time, texts of different length too. */
export function equalText(one: string, other: string): boolean {
  return timingSafeEqual(sha256(one), sha256(other));
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
