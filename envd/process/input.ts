// What clients send to a process's stdin or terminal, in order and with a bound.
import { closeSync } from "node:fs";
import type { FileSink } from "bun";
import { EnvdError, errnoOf } from "../errors.ts";
import { INPUT_QUEUE_BYTES_MAX } from "../limits.ts";

/** The writing end of one process. */
export class Input {
  readonly #fd: number;
  readonly #closesFd: boolean;
  #sink: FileSink | null = null;
  #last: Promise<void> = Promise.resolve();
  #queuedBytes = 0;
  #isClosed = false;

  constructor(fd: number, options: { closesFd: boolean }) {
    this.#fd = fd;
    this.#closesFd = options.closesFd;
  }

  /**
   * Writes after everything written before and resolves when the process's side has taken it: a
   * process that does not read makes its writers wait. failed_precondition when the input is closed,
   * resource_exhausted when too much waits already.
   */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed) throw closedError();
    if (this.#queuedBytes + bytes.length > INPUT_QUEUE_BYTES_MAX) {
      throw new EnvdError(
        "resource_exhausted",
        `input: ${INPUT_QUEUE_BYTES_MAX} bytes wait for the process to read`,
      );
    }
    this.#queuedBytes += bytes.length;
    const written = this.#last.then(() => this.#writeNow(bytes));
    this.#last = written.catch(() => {});
    await written.finally(() => {
      this.#queuedBytes -= bytes.length;
    });
  }

  /** Closes after what was written before; the process then reads the end of file. */
  async end(): Promise<void> {
    if (this.#isClosed) return;
    await this.#last;
    this.close();
  }

  /** Closes at once; what waits is dropped. A terminal's master stays open for its reader. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#sink !== null) void Promise.resolve(this.#sink.end()).catch(() => {});
    if (this.#closesFd) closeSync(this.#fd);
  }

  async #writeNow(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed) throw closedError();
    this.#sink ??= Bun.file(this.#fd).writer();
    try {
      this.#sink.write(bytes);
      await this.#sink.flush();
    } catch (error) {
      const errno = errnoOf(error);
      if (errno !== "EPIPE" && errno !== "EIO") throw error;
      // The sink would take later writes without a word.
      this.close();
      throw closedError();
    }
    if (this.#isClosed) throw closedError();
  }
}

function closedError(): EnvdError {
  return new EnvdError("failed_precondition", "input: the process has closed it");
}
