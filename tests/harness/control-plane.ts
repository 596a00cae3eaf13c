// The control plane's program on a database of its own, with mails as files, or whatever else it is set to.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AUTHORITY_SETTINGS } from "./test-certificates.ts";
import { waitFor } from "./wait-for.ts";

export const PASSWORD = "correct horse battery";

const MAIN = join(import.meta.dirname, "../../cp/main.ts");
const SETTINGS = {
  JWT_SECRET: "a secret for tests of at least 32 characters",
  WRENN_ENCRYPTION_KEY: "0f".repeat(32),
  ...AUTHORITY_SETTINGS,
  WRENN_CP_LISTEN_ADDR: "127.0.0.1:0",
};

export class ControlPlane implements AsyncDisposable {
  readonly url: string;
  readonly dir: string;
  readonly #program: Bun.Subprocess;
  readonly #log: { text: string };

  private constructor(parts: {
    url: string;
    dir: string;
    program: Bun.Subprocess;
    log: { text: string };
  }) {
    this.url = parts.url;
    this.dir = parts.dir;
    this.#program = parts.program;
    this.#log = parts.log;
  }

  /** Once it listens; mails lie in `<dir>/.dev/mail`. */
  static async start(
    databaseUrl: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<ControlPlane> {
    const dir = await mkdtemp(join(tmpdir(), "wrenn-cp-"));
    const { PATH = "", REDIS_URL = "" } = process.env;
    const program = Bun.spawn([process.execPath, MAIN], {
      env: {
        ...{ PATH, REDIS_URL, DATABASE_URL: databaseUrl, ...SETTINGS },
        ...{ WRENN_MAIL_DIR: join(dir, ".dev/mail"), ...settings },
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const log = { text: "" };
    void read(program.stderr, log);
    const line = await waitFor("the address", () => /^.*"listening".*$/m.exec(log.text)?.[0]);
    const { url } = JSON.parse(String(line)) as { url: string };
    return new ControlPlane({ url: url.replace(/\/$/, ""), dir, program, log });
  }

  get log(): string {
    return this.#log.text;
  }

  async post(path: string, body: object, headers: Record<string, string> = {}) {
    const sent = { method: "POST", body: JSON.stringify(body), headers };
    const answer = await fetch(`${this.url}${path}`, sent);
    const text = await answer.text();
    const told = (text === "" ? {} : JSON.parse(text)) as Record<string, string>;
    return { status: answer.status, body: told };
  }

  /** The token of somebody who has signed up just now. */
  async person(email: string): Promise<string> {
    await this.post("/v1/auth/signup", { email, password: PASSWORD, name: "Ada" });
    const mail = (await this.#mails()).find((text) => text.startsWith(`To: ${email}\n`)) ?? "";
    const token = /token=([0-9a-f]{32})/.exec(mail)?.[1] ?? "";
    return (await this.post("/v1/auth/activate", { token })).body.token ?? "";
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    this.#program.kill("SIGKILL");
    await this.#program.exited;
  }

  async #mails(): Promise<string[]> {
    const dir = join(this.dir, ".dev/mail");
    const files = await Array.fromAsync(new Bun.Glob("*.txt").scan(dir));
    return await Promise.all(files.map((file) => Bun.file(join(dir, file)).text()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#program.kill();
    await this.#program.exited;
    await rm(this.dir, { recursive: true });
  }
}

async function read(stream: ReadableStream<Uint8Array>, log: { text: string }): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) log.text += decoder.decode(chunk, { stream: true });
}
