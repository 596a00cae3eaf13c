// What ends the agent, and how: the first reason decides.

/**
 * stop: capsules go on without an agent. forget: the same, and so do the credentials, since the control
 * plane does not know the host any more. terminate: nothing of this agent stays on the machine. pause:
 * the same, but capsules that run are paused and their files stay.
 */
export type Ending = "stop" | "forget" | "terminate" | "pause";

export class Shutdown implements Disposable {
  readonly #decided = Promise.withResolvers<Ending>();
  readonly #onSignal = () => this.request("stop");

  constructor() {
    process.on("SIGTERM", this.#onSignal);
    process.on("SIGINT", this.#onSignal);
  }

  request(ending: Ending): void {
    this.#decided.resolve(ending);
  }

  /** Waits for the first request. */
  get requested(): Promise<Ending> {
    return this.#decided.promise;
  }

  [Symbol.dispose](): void {
    process.off("SIGTERM", this.#onSignal);
    process.off("SIGINT", this.#onSignal);
  }
}
