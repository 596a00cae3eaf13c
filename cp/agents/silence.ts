// Notices that an agent fell silent in the middle of a stream. Bun's own idle timeout of fetch does not
// end a response that stops coming (1.4.5), and a machine that lost its power closes no connection.

import { Code, ConnectError } from "@connectrpc/connect";

/** Time is taken only while the agent owes something: not while we wait for the sender, nor for a reader. */
export class Silence {
  readonly #limitMs: number;
  readonly #ended = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** Aborts, with the ConnectError `unavailable`, when the agent kept silent for too long. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** It is the agent's turn. */
  begin(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.#ended.abort(new ConnectError("the agent fell silent", Code.Unavailable)),
      this.#limitMs,
    );
  }

  /** The agent moved, or it is somebody else's turn. */
  end(): void {
    clearTimeout(this.#timer);
  }
}
