// Whether the database answers: the driver waits for an answer for as long as the connection lives, and
// neither a stopped server nor a network that swallows packets ends one.
//
// A statement may take its time, so long waits are no proof. They make the watch ask on a connection of its
// own, by the question that each server answers before it asks who is there (SSLRequest). When that stays
// unanswered, too, all connections are ended, so that all that waits on them fails as with a lost server,
// and new ones fail at once until the server answers. Where it is answered, only those are ended on which
// nothing came for longer than any statement takes: what waits for a place in the pool waits on.

import { Socket } from "node:net";
import { Duplex } from "node:stream";

const TICK_MS = 250;
/** A wait this long makes the watch ask. */
const WAIT_MS = 1000;
/** With the wait before it below what a request may hang; a busy server forks in less. */
const PROBE_TIMEOUT_MS = 2500;
/** As the driver has it by default. */
const KEEP_ALIVE_MS = 60_000;
/** Length and code, in network order (PostgreSQL, "Message Formats"). */
const SSL_REQUEST = Uint8Array.of(0, 0, 0, 8, 4, 210, 22, 47);

/** Where the server is, as the driver parsed it. */
export interface ServerAddress {
  readonly host: readonly string[];
  readonly port: readonly number[];
  /** Of a unix socket; then host and port mean nothing. */
  readonly path: string | false;
}

export interface AnswerWatchOptions {
  /** No wait of a living connection is longer, not even of a statement that the server ends. */
  readonly waitMsMax: number;
  /** Called when the server falls silent, and when it answers again. */
  readonly told?: (isSilent: boolean) => void;
}

export class AnswerWatch {
  readonly #options: AnswerWatchOptions;
  readonly #waits = new Set<{ readonly startedAtMs: number }>();
  readonly #sockets = new Set<DatabaseSocket>();
  #server: ServerAddress | undefined;
  #watching: Promise<void> | undefined;
  #isSilent = false;
  #ending: "none" | "some" | "all" = "none";
  #isClosed = false;

  constructor(options: AnswerWatchOptions) {
    this.#options = options;
  }

  /**
   * The driver's `socket` option. Never rejects, for the driver would lose the connection's place in the
   * pool: what fails does so as a socket that fails.
   */
  readonly connect = (server: ServerAddress): Duplex => {
    this.#server = server;
    if (this.#isSilent) return new RefusedSocket();
    const socket: DatabaseSocket = new DatabaseSocket(server, () => this.#sockets.delete(socket));
    this.#sockets.add(socket);
    return socket;
  };

  /** From the sending of something until the returned function is called, the database is waited for. */
  begin(): () => void {
    const wait = { startedAtMs: performance.now() };
    this.#waits.add(wait);
    this.#watching ??= this.#watch();
    return () => this.#waits.delete(wait);
  }

  /**
   * Why nothing is to be sent now; null when it may be. What is new may get any connection, also one that is
   * being ended; a transaction that has begun has its own.
   */
  refusal(work: "new" | "begun"): Error | null {
    const isEnding = work === "new" ? this.#ending !== "none" : this.#ending === "all";
    return this.#isSilent || isEnding ? silence() : null;
  }

  /** Pause before a lost connection is tried again: none where that fails at once anyway. */
  reconnectSec(usualSec: number): number {
    return this.#isSilent ? 0 : usualSec;
  }

  /** Ends what the driver left open. */
  close(): void {
    this.#isClosed = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Runs while somebody waits, and while the server is silent. */
  async #watch(): Promise<void> {
    while (!this.#isClosed && (this.#waits.size > 0 || this.#isSilent)) {
      await Bun.sleep(TICK_MS);
      const [oldest] = this.#waits;
      const waitMs = oldest === undefined ? 0 : performance.now() - oldest.startedAtMs;
      if (this.#server === undefined || (waitMs < WAIT_MS && !this.#isSilent)) continue;
      const answers = await answersAt(this.#server);
      const stillWaits = oldest !== undefined && this.#waits.has(oldest);
      if (answers) {
        this.#set(false);
        if (stillWaits && waitMs > this.#options.waitMsMax) await this.#end("some", this.#deaf());
      } else if (stillWaits) {
        this.#set(true);
        await this.#end("all", [...this.#sockets]);
      }
    }
    this.#watching = undefined;
  }

  #set(isSilent: boolean): void {
    if (isSilent !== this.#isSilent) this.#options.told?.(isSilent);
    this.#isSilent = isSilent;
  }

  /** Those that are dead for themselves, and maybe some that nobody used for as long. */
  #deaf(): DatabaseSocket[] {
    const heardSinceMs = performance.now() - this.#options.waitMsMax;
    return [...this.#sockets].filter(({ heardAtMs }) => heardAtMs < heardSinceMs);
  }

  /**
   * The driver writes at the end of a round of the event loop, and what it could not write begins the next
   * connection of that place. So it gets nothing more first, and time to write what it has.
   */
  async #end(which: "some" | "all", sockets: readonly DatabaseSocket[]): Promise<void> {
    if (sockets.length === 0) return;
    this.#ending = which;
    await nextRound();
    await nextRound();
    const closed = sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
    for (const socket of sockets) socket.destroy();
    await Promise.race([Promise.all(closed), Bun.sleep(TICK_MS)]);
    // The driver has heard of the ends by then.
    await nextRound();
    this.#ending = "none";
  }
}

function nextRound(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Open from the start, as the driver has it: what is written waits for the connection. One that breaks off
 * later closes without an error: Bun tells the error first and the end in another round, and the driver
 * forgets what it sent in between.
 */
class DatabaseSocket extends Socket {
  /** As the driver's own sockets have it, for the name in a certificate. */
  readonly host: string | undefined;
  readonly port: number | undefined;
  /** When something came last. */
  heardAtMs = performance.now();
  readonly #ended: () => void;
  #isAnswered = false;

  constructor({ host, port, path }: ServerAddress, ended = () => {}) {
    super();
    this.#ended = ended;
    this.host = host[0];
    this.port = port[0];
    this.on("data", () => {
      this.#isAnswered = true;
      this.heardAtMs = performance.now();
    });
    if (path) this.connect(path);
    else this.connect(port[0] ?? 0, host[0] ?? "");
    // What the driver asks for before there is a connection is not kept.
    this.once("connect", () => this.setKeepAlive(true, KEEP_ALIVE_MS));
  }

  /**
   * Bun says of a connection that was reset that it closed for an error, though there was none to tell: the
   * driver would wait for that error, and what waits for an answer for ever.
   */
  override emit(event: string | symbol, ...rest: unknown[]): boolean {
    return event === "close" && this.#isAnswered
      ? super.emit(event, false)
      : super.emit(event, ...rest);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#ended();
    super._destroy(error, (failure) => done(this.#isAnswered ? null : failure));
  }
}

/** Fails when the first is written to it. */
class RefusedSocket extends Duplex {
  constructor() {
    super({ read() {}, write: (_chunk, _encoding, done) => done(silence()) });
  }
}

async function answersAt(server: ServerAddress): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = new DatabaseSocket(server);
  socket.once("data", () => resolve(true));
  socket.once("error", () => resolve(false));
  socket.once("close", () => resolve(false));
  socket.write(SSL_REQUEST);
  const timer = setTimeout(() => resolve(false), PROBE_TIMEOUT_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

function silence(): Error {
  return Object.assign(new Error("the database does not answer"), { code: "ETIMEDOUT" });
}
