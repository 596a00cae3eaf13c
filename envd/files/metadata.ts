// Metadata of files: headers of an upload, extended attributes on disk, a map in an entry.
//
// native/guest/attributes.c does the system calls. One such process serves all requests in turn; it
// is started when it is first needed, and again when it has ended.
import type { Subprocess } from "bun";
import { EnvdError } from "../errors.ts";
import { METADATA_BYTES_MAX, METADATA_KEY_BYTES_MAX } from "../limits.ts";

export type Metadata = Readonly<Record<string, string>>;

const HEADER_PREFIX = "x-metadata-";
const ATTRIBUTE_PREFIX = "user.e2b.";
const PRINTABLE = /^[\x20-\x7e]*$/;

/** What the kernel answers where attributes cannot be kept, and where they do not fit. */
const ERRNO_MEANINGS: Readonly<Record<string, string>> = {
  7: "metadata: is too long for the file system",
  28: "metadata: the file system has no room for it",
  95: "metadata: the file system keeps none",
};

/** The metadata that the headers of an upload carry; invalid_argument names what is wrong with it. */
export function metadataOf(headers: Headers): Metadata {
  const metadata: Record<string, string> = {};
  let bytes = 0;
  for (const [header, value] of headers) {
    if (!header.startsWith(HEADER_PREFIX)) continue;
    const key = header.slice(HEADER_PREFIX.length).toLowerCase();
    if (key === "" || key.length > METADATA_KEY_BYTES_MAX) {
      throw new EnvdError("invalid_argument", `metadata: '${key}' is no valid key`);
    }
    if (!PRINTABLE.test(value)) {
      throw new EnvdError("invalid_argument", `metadata: '${key}' must be printable ASCII`);
    }
    bytes += key.length + value.length;
    metadata[key] = value;
  }
  if (bytes > METADATA_BYTES_MAX) {
    throw new EnvdError("invalid_argument", `metadata: is longer than ${METADATA_BYTES_MAX} bytes`);
  }
  return metadata;
}

type AttributesProcess = Subprocess<"pipe", "pipe", "inherit">;

/** Reads and writes the metadata of files on disk. */
export class MetadataStore {
  readonly #program: string;
  #server: { process: AttributesProcess; answers: AsyncGenerator<Buffer> } | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(programsDir: string) {
    this.#program = `${programsDir}/attributes`;
  }

  /** The metadata of each path, empty for what has none or cannot be read. */
  async read(paths: readonly string[]): Promise<Metadata[]> {
    if (paths.length === 0) return [];
    const fields = (await this.#ask(["get", ATTRIBUTE_PREFIX, ...paths])).values();
    return paths.map(() => {
      const count = Number(fields.next().value);
      return Object.fromEntries(
        Array.from({ length: count }, () => [fields.next().value ?? "", fields.next().value ?? ""]),
      );
    });
  }

  /** Makes the file's metadata exactly this; failed_precondition where it cannot be kept. */
  async write(path: string, metadata: Metadata): Promise<void> {
    const [errno = ""] = await this.#ask([
      "set",
      ATTRIBUTE_PREFIX,
      path,
      ...Object.entries(metadata).flat(),
    ]);
    const isNothing = Object.keys(metadata).length === 0;
    if (errno === "0" || (isNothing && errno === "95")) return;
    throw new EnvdError("failed_precondition", ERRNO_MEANINGS[errno] ?? "metadata: cannot be kept");
  }

  close(): void {
    this.#server?.process.kill("SIGKILL");
  }

  #ask(fields: string[]): Promise<string[]> {
    const answer = this.#last.then(() => this.#askNow(Buffer.from(`${fields.join("\0")}\0`)));
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
    if (done) throw new Error(`attributes ended with status ${await process.exited}`);
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
