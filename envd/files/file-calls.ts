// System calls on files that the runtime has not: native/guest/file-calls.c does them.
//
// One such process serves all requests in turn; it is started when it is first needed, and again when
// it has ended.
import { constants } from "node:os";
import type { Subprocess } from "bun";
import { systemBytes } from "../file-names.ts";

type FileCallsProcess = Subprocess<"pipe", "pipe", "inherit">;

/** Of names with one number, such as ENOTSUP and EOPNOTSUPP, the last. */
const ERRNO_NAMES = new Map(
  Object.entries(constants.errno)
    .sort()
    .reverse()
    .map(([name, errno]) => [errno, name]),
);

/** Asks the process, one request after the other. */
export class FileCalls {
  readonly #program: string;
  #server: { process: FileCallsProcess; answers: AsyncGenerator<Buffer> } | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(programsDir: string) {
    this.#program = `${programsDir}/file-calls`;
  }

  /** The fields of the answer to those, names as they are shown; what they are says native/guest/file-calls.c. */
  ask(fields: readonly string[]): Promise<string[]> {
    const answer = this.#last.then(() => this.#askNow(systemBytes(`${fields.join("\0")}\0`)));
    this.#last = answer.catch(() => {});
    return answer;
  }

  /** Fails as the runtime's own calls do, with the errno as `code`. */
  async call(verb: string, ...fields: string[]): Promise<void> {
    const [answer = ""] = await this.ask([verb, ...fields]);
    const errno = Number(answer);
    if (errno === 0) return;
    const code = ERRNO_NAMES.get(errno) ?? `E${errno}`;
    throw Object.assign(new Error(`${code}: ${verb} failed`), { code, errno: -errno });
  }

  async #askNow(request: Buffer): Promise<string[]> {
    const { process, answers } = this.#start();
    const length = Buffer.alloc(4);
    length.writeUInt32LE(request.length);
    process.stdin.write(Buffer.concat([length, request]));
    await process.stdin.flush();
    const { value, done } = await answers.next();
    if (done) throw new Error(`file-calls ended with status ${await process.exited}`);
    return value.toString("utf8").split("\0").slice(0, -1);
  }

  #start() {
    const current = this.#server;
    if (current !== null && current.process.exitCode === null && !current.process.killed) {
      return current;
    }
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
