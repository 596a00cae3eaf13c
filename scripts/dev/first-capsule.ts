// The proof at the end of `make dev`: a program that ran inside a microVM, through the public API.

import { api } from "./account.ts";
import type { Platform } from "./settings.ts";

const PROGRAM = [
  "import platform as p",
  "print(f'Hello from {p.node()}, Linux {p.release()}, Python {p.python_version()}')",
].join("; ");

/** A cold boot on a machine that does much else takes longer than the API waits by itself. */
const CREATE_WAIT_SEC = 110;

export interface FirstCapsule {
  readonly command: string;
  readonly output: string;
  /** What its create took. */
  readonly createMs: number;
}

/** Creates a capsule, runs a small program in it and destroys it. Throws when the program fails. */
export async function runFirstCapsule(platform: Platform): Promise<FirstCapsule> {
  const { baseUrl: base, account } = platform;
  const apiKey = account.apiKey;
  const startedAt = performance.now();
  const capsule = await api<{ id: string }>(base, "/v1/capsules", {
    ...{ method: "POST", apiKey, body: {} },
    waitSec: CREATE_WAIT_SEC,
  });
  const createMs = performance.now() - startedAt;
  const destroy = () => api(base, `/v1/capsules/${capsule.id}`, { method: "DELETE", apiKey });
  let isProven = false;
  try {
    const body = { cmd: "python3", args: ["-c", PROGRAM] };
    const result = await api<{ stdout: string; stderr: string; exit_code: number }>(
      base,
      `/v1/capsules/${capsule.id}/exec`,
      { method: "POST", apiKey, body },
    );
    if (result.exit_code !== 0) {
      throw new Error(`the first program ended with ${result.exit_code}: ${result.stderr}`);
    }
    isProven = true;
    return { command: `python3 -c "${PROGRAM}"`, output: result.stdout.trimEnd(), createMs };
  } finally {
    // Why it failed is the better reason.
    await destroy().catch((error) => {
      if (isProven) throw error;
    });
  }
}
