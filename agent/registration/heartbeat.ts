// Tells the control plane every 30 s that the agent lives, and has credentials renewed in time. A control plane that
// cannot be reached changes nothing here: capsules go on, and the next beat is the next try. Nor does any other
// answer, but one: that the control plane has deleted this very host, said again and again for a quarter of an hour.

import type { Log } from "../log.ts";
import { type ControlPlane, Refused } from "./control-plane.ts";
import type { OwnCredentials } from "./host-credentials.ts";

const HEARTBEAT_MS = 30_000;
/** Long enough for whoever deleted the wrong host, or restored an old database, to notice. */
const FORGET_AFTER_MS = 15 * 60_000;

interface Timing {
  readonly everyMs: number;
  readonly forgetAfterMs: number;
}

export class Heartbeat implements AsyncDisposable {
  readonly #controlPlane: ControlPlane;
  readonly #log: Log;
  readonly #onDeleted: () => void;
  readonly #stopped = new AbortController();
  readonly #running: Promise<void>;
  readonly #credentials: OwnCredentials;
  readonly #timing: Timing;
  #isLost = false;
  /** By the monotonic clock; null while it is not said to be deleted. */
  #deletedSinceMs: number | null = null;

  /** Beats at once. `onDeleted`: the control plane has deleted the host; it beats no longer. */
  constructor(options: {
    controlPlane: ControlPlane;
    credentials: OwnCredentials;
    log: Log;
    onDeleted: () => void;
    /** Shorter in tests. */
    timing?: Timing;
  }) {
    this.#controlPlane = options.controlPlane;
    this.#credentials = options.credentials;
    this.#log = options.log;
    this.#onDeleted = options.onDeleted;
    this.#timing = options.timing ?? { everyMs: HEARTBEAT_MS, forgetAfterMs: FORGET_AFTER_MS };
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      if (!(await this.#beat())) return;
      await this.#pause();
    }
  }

  /** False: the host was deleted. */
  async #beat(): Promise<boolean> {
    try {
      await this.#sendOrRenew();
      if (this.#credentials.isDue()) await this.#renew();
      if (this.#isLost) this.#log.info("heartbeat.recovered");
      this.#isLost = false;
      this.#deletedSinceMs = null;
      return true;
    } catch (error) {
      if (error instanceof Refused && error.saysDeleted(this.#credentials.hostId)) {
        return this.#goOnDeleted(error);
      }
      this.#deletedSinceMs = null;
      // Said once per outage.
      if (!this.#isLost) this.#log.warn("heartbeat.lost", { error });
      this.#isLost = true;
      return true;
    }
  }

  /** False once it has been said for long enough. */
  #goOnDeleted(error: Refused): boolean {
    if (this.#deletedSinceMs === null) {
      this.#deletedSinceMs = performance.now();
      this.#log.error("heartbeat.host-deleted", {
        error,
        forgetAfterMs: this.#timing.forgetAfterMs,
      });
    }
    if (performance.now() - this.#deletedSinceMs < this.#timing.forgetAfterMs) return true;
    this.#onDeleted();
    return false;
  }

  async #sendOrRenew(): Promise<void> {
    try {
      await this.#controlPlane.heartbeat(this.#credentials);
      return;
    } catch (error) {
      const isAboutToken = error instanceof Refused && [401, 403].includes(error.status);
      if (!isAboutToken) throw error;
    }
    await this.#renew();
    await this.#controlPlane.heartbeat(this.#credentials);
  }

  async #renew(): Promise<void> {
    await this.#credentials.renew(this.#controlPlane);
    this.#log.info("heartbeat.credentials-renewed");
  }

  async #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, this.#timing.everyMs);
    const { signal } = this.#stopped;
    signal.addEventListener("abort", () => resolve(), { once: true });
    if (signal.aborted) resolve();
    await promise;
    clearTimeout(timer);
  }
}
