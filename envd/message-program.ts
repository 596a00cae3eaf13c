// A program in C that serves requests of envd as long as envd runs; native/guest/message.h says how.
//
// It is started when it is first needed, and again when it has ended: what has run once costs a guest that
// is restored afterwards neither a start nor its pages.
import type { Subprocess } from "bun";
import { systemBytes } from "./file-names.ts";

type ServingProcess = Subprocess<"pipe", "pipe", "inherit">;

/** Asks the program, one request after the other. */
export class MessageProgram {
  readonly #program: string;
  #server: { process: ServingProcess; answers: AsyncGenerator<Buffer> } | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(program: string) {
    this.#program = program;
  }

  /** The fields of the answer to those; names of files are as clients see them. */
  ask(fields: readonly string[]): Promise<string[]> {
    const answer = this.#last.then(() => this.#askNow(systemBytes(`${fields.join("\0")}\0`)));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #askNow(request: Buffer): Promise<string[]> {
    const { process, answers } = this.#start();
    const length = Buffer.alloc(4);
    length.writeUInt32LE(request.length);
    process.stdin.write(Buffer.concat([length, request]));
    await process.stdin.flush();
    const { value, done } = await answers.next();
    if (done) throw new Error(`${this.#program} ended with status ${await process.exited}`);
    return value.toString("utf8").split("\0").slice(0, -1);
  }

  #start() {
    const current = this.#server;
    // True of one that has ended, whatever ended it (Bun).
    if (current !== null && !current.process.killed) return current;
    const process = Bun.spawn([this.#program], { stdio: ["pipe", "pipe", "inherit"], env: {} });
    // It ends with envd, and does not keep it from ending.
    process.unref();
    this.#server = { process, answers: answersOf(process.stdout) };
    return this.#server;
  }
}

async function* answersOf(stdout: ReadableStream<Uint8Array>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stdout) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32LE()) {
      const end = 4 + rest.readUInt32LE();
      yield rest.subarray(4, end);
      rest = rest.subarray(end);
    }
  }
}
