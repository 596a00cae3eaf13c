// One HTTP/2 connection that ends when no request is on it for long: pings and settings are no requests.

import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { IdleClock, Ticking } from "../../proto/http1/idle-clock.ts";
import type { Silences } from "../../proto/http1/server-connection.ts";

/** After the goodbye, for requests that were on their way. */
const GOODBYE_MS = 5_000;
/** Beginnings of requests in one go. A client may send thousands in a packet of which most are refused. */
const STARTS_AT_ONCE_MAX = 16;

export class Http2Session implements Ticking {
  readonly #session: ServerHttp2Session;
  readonly #clock: IdleClock;
  readonly #silences: Silences;
  #streams = 0;
  /** Requests that began since the event loop has gone round. */
  #startsInGo = 0;
  #hadRequest = false;
  #movedAt: number;
  #saidGoodbyeAt: number | null = null;

  constructor(session: ServerHttp2Session, clock: IdleClock, silences: Silences) {
    this.#session = session;
    this.#clock = clock;
    this.#silences = silences;
    this.#movedAt = clock.nowMs;
    clock.add(this);
    session.on("close", () => clock.remove(this));
  }

  /**
   * Counts the request until it is over, and starts it: at once, or where many come at once when the event
   * loop has gone round. Until then they count as open, so that HTTP/2's own bound of those takes effect.
   */
  begin(stream: ServerHttp2Stream, start: () => void): void {
    this.#hadRequest = true;
    this.#streams += 1;
    stream.once("close", () => {
      this.#streams -= 1;
      this.#movedAt = this.#clock.nowMs;
    });
    if (this.#startsInGo === 0) {
      setImmediate(() => {
        this.#startsInGo = 0;
      });
    }
    this.#startsInGo += 1;
    if (this.#startsInGo <= STARTS_AT_ONCE_MAX) start();
    else {
      setImmediate(() => {
        if (!stream.destroyed) start();
      });
    }
  }

  tick(nowMs: number): void {
    if (this.#saidGoodbyeAt !== null) {
      if (nowMs - this.#saidGoodbyeAt > GOODBYE_MS) this.#session.destroy();
      return;
    }
    const { firstRequestMs, keptAliveMs } = this.#silences;
    const silenceMs = this.#hadRequest ? keptAliveMs : firstRequestMs;
    if (this.#streams > 0 || nowMs - this.#movedAt <= silenceMs) return;
    this.#saidGoodbyeAt = nowMs;
    this.#session.close();
  }
}
