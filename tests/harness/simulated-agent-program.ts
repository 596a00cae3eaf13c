// The real program as a process of its own, to be killed.

import {
  type Answer,
  ENCRYPTION_KEY,
  JWT_SECRET,
  type TestPlatform,
  toAnswer,
} from "./simulated-agent-platform.ts";
import { AUTHORITY_SETTINGS } from "./test-certificates.ts";
import { waitFor } from "./wait-for.ts";

const MAIN = new URL("../../cp/main.ts", import.meta.url).pathname;
/** It takes a second, on a machine that does much else longer. Less than a test has that starts it. */
const START_TIMEOUT_MS = 50_000;

type Started = Bun.Subprocess<"ignore", "ignore", "pipe">;

/** A process of the program on the platform's database. */
export class ControlPlaneProgram {
  readonly #process: Started;
  readonly url: string;
  /** What it has written to its log since it listens. */
  logged = "";

  readonly #apiKey: string;

  private constructor(parts: { process: Started; url: string; platform: TestPlatform }) {
    this.#process = parts.process;
    this.url = parts.url;
    this.#apiKey = parts.platform.team.apiKey;
  }

  /** Returns when it listens; throws with what it printed when it ends before. */
  static async start(platform: TestPlatform): Promise<ControlPlaneProgram> {
    const started = Bun.spawn(["bun", MAIN], {
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: platform.database.url,
        REDIS_URL: process.env.REDIS_URL,
        WRENN_CP_LISTEN_ADDR: "127.0.0.1:0",
        JWT_SECRET,
        WRENN_ENCRYPTION_KEY: ENCRYPTION_KEY,
        ...AUTHORITY_SETTINGS,
        WRENN_DEFAULT_TEMPLATE: "minimal-debian",
        WRENN_DEFAULT_VCPUS: "1",
        WRENN_DEFAULT_MEMORY_MB: "512",
      },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    const lines = started.stderr.getReader();
    const url = await waitFor("the control plane's address", () => addressIn(lines), {
      timeoutMs: START_TIMEOUT_MS,
    });
    const program = new ControlPlaneProgram({ process: started, url, platform });
    void program.#follow(lines);
    return program;
  }

  /** The answer, or null when the program died, or the signal came, before it answered. */
  async call(
    method: string,
    path: string,
    options: { key?: string; body?: unknown; prefer?: string; signal?: AbortSignal } = {},
  ): Promise<Answer | null> {
    const { key, body, prefer, signal } = options;
    try {
      const response = await fetch(new URL(path, this.url), {
        method,
        headers: {
          "x-api-key": this.#apiKey,
          ...(key === undefined ? {} : { "idempotency-key": key }),
          ...(prefer === undefined ? {} : { prefer }),
        },
        signal: signal ?? null,
        ...(method === "POST" ? { body: JSON.stringify(body ?? {}) } : {}),
      });
      return await toAnswer(response);
    } catch {
      return null;
    }
  }

  async #follow(lines: Lines): Promise<void> {
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await lines.read();
      if (done) return;
      this.logged += decoder.decode(value, { stream: true });
    }
  }

  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#process.kill(signal);
    await this.#process.exited;
  }
}

interface Lines {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
}

async function addressIn(lines: Lines): Promise<string> {
  const decoder = new TextDecoder();
  for (let text = ""; ; ) {
    const { done, value } = await lines.read();
    if (done) throw new Error(`the control plane did not start: ${text}`);
    text += decoder.decode(value, { stream: true });
    const url = /"url":"([^"]+)"/.exec(text)?.[1];
    if (url !== undefined) return url;
  }
}
