// Tells the control plane every 30 s that the agent lives. A control plane that cannot be reached changes
// nothing here: capsules go on, and the next beat is the next try.

import type { Log } from "../log.ts";
import { type ControlPlane, Refused } from "./control-plane.ts";
import { type HostCredentials, saveCredentials } from "./host-credentials.ts";

const HEARTBEAT_MS = 30_000;

export class Heartbeat implements AsyncDisposable {
  readonly #controlPlane: ControlPlane;
  readonly #dir: string;
  readonly #log: Log;
  readonly #onDeleted: () => void;
  readonly #stopped = new AbortController();
  readonly #running: Promise<void>;
  #credentials: HostCredentials;
  #isLost = false;

  /** Beats at once. `onDeleted`: the control plane does not know the host any more; it beats no longer. */
  constructor(options: {
    controlPlane: ControlPlane;
    credentials: HostCredentials;
    dir: string;
    log: Log;
    onDeleted: () => void;
  }) {
    this.#controlPlane = options.controlPlane;
    this.#credentials = options.credentials;
    this.#dir = options.dir;
    this.#log = options.log;
    this.#onDeleted = options.onDeleted;
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
      await this.#sendOrRefresh();
      if (this.#isLost) this.#log.info("heartbeat.recovered");
      this.#isLost = false;
      return true;
    } catch (error) {
      if (error instanceof Refused && error.status === 404) {
        this.#log.error("heartbeat.host-deleted", { error });
        this.#onDeleted();
        return false;
      }
      // Said once per outage.
      if (!this.#isLost) this.#log.warn("heartbeat.lost", { error });
      this.#isLost = true;
      return true;
    }
  }

  async #sendOrRefresh(): Promise<void> {
    try {
      await this.#controlPlane.heartbeat(this.#credentials);
      return;
    } catch (error) {
      const isAboutToken = error instanceof Refused && [401, 403].includes(error.status);
      if (!isAboutToken) throw error;
    }
    this.#credentials = await this.#controlPlane.refresh(this.#credentials.refresh_token);
    await saveCredentials(this.#dir, this.#credentials);
    this.#log.info("heartbeat.credentials-refreshed");
    await this.#controlPlane.heartbeat(this.#credentials);
  }

  async #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, HEARTBEAT_MS);
    const { signal } = this.#stopped;
    signal.addEventListener("abort", () => resolve(), { once: true });
    if (signal.aborted) resolve();
    await promise;
    clearTimeout(timer);
  }
}
