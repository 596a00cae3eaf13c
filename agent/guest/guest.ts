// The agent's connection to one guest: what it may call, with which token, until when.

import { randomBytes } from "node:crypto";
import { type Client, createClient } from "@connectrpc/connect";
import { createTransport } from "@connectrpc/connect/protocol-connect";
import type { HeldBytes } from "../../proto/byte-budget.ts";
import { ENVD_RIGHTS_HEADER } from "../../proto/envd-routes.ts";
import { Filesystem } from "../../proto/gen/envd/filesystem_pb.js";
import { Process } from "../../proto/gen/envd/process_pb.js";
import { AgentError, type ErrorSubject, invalidField } from "../errors.ts";
import {
  ENTROPY_BYTES,
  FREEZE_WAIT_MS,
  GUEST_CALL_TIMEOUT_MS,
  GUEST_REQUEST_BYTES_MAX,
  HELD_BYTES_MAX,
  HELD_PER_CAPSULE_BYTES_MAX,
  HELD_PER_TEAM_BYTES_MAX,
  INPUTS_PER_CAPSULE_MAX,
  SMALL_ANSWER_BYTES_MAX,
  STREAM_MESSAGE_BYTES_MAX,
  STREAMS_PER_CAPSULE_MAX,
  UNARY_ANSWER_BYTES_MAX,
} from "../limits.ts";
import { advanceUs, readClock } from "./guest-clock.ts";
import { type GuestCall, guestError, guestText } from "./guest-errors.ts";
import { badAnswer, GuestHttp, readText, TOKEN_HEADER } from "./guest-http.ts";
import type { StreamBudget } from "./stream-budget.ts";

const TIME_HEADER = "x-envd-time-ms";
const TIME_MS = /^\d{1,15}$/;
const NEWEST_HEADER = "x-envd-newest-ns";
const TIME_NS = /^\d{1,21}$/;

export interface GuestOptions {
  readonly hostIp: string;
  readonly port?: number;
  readonly accessToken: string;
  /** Whose capsules pay together for what is held of their answers. */
  readonly teamId: string;
  /** Shared by all guests of the agent. */
  readonly budget: StreamBudget;
  /** Told how each short call ended: `ok` or the code of its error. */
  readonly observe?: (outcome: string) => void;
}

export interface GuestCallOptions {
  readonly signal: AbortSignal;
  readonly headers: Record<string, string>;
}

/** What envd learns when it is up. */
export interface GuestIdentity {
  readonly capsuleId: string;
  readonly templateId: string;
  readonly defaultUser: string;
  readonly envs: Readonly<Record<string, string>>;
}

/** What a restored guest must not share with others that were restored from the same memory. */
export interface GuestRenewal {
  /** The token that envd had when its memory was saved; null: none. */
  readonly savedToken: string | null;
}

/** Why nothing can be asked of a guest any more. */
export type GuestEnd = "ended" | "left" | "paused";

const ENDS = {
  ended: ["failed_precondition", "The capsule ended", "capsule"],
  left: ["unavailable", "The agent stops; the capsule goes on", "host"],
  paused: [
    "failed_precondition",
    "The capsule is paused; what runs in it goes on when it is resumed",
    "capsule",
  ],
} as const;

export class Guest {
  /** Where the host reaches it. */
  readonly hostIp: string;
  readonly http: GuestHttp;
  readonly processes: Client<typeof Process>;
  /** For calls that answer with a stream of small messages. */
  readonly processStreams: Client<typeof Process>;
  readonly files: Client<typeof Filesystem>;
  readonly #accessToken: string;
  readonly #teamId: string;
  readonly #budget: StreamBudget;
  readonly #observe: (outcome: string) => void;
  readonly #closed = new AbortController();
  #standstill = new AbortController();
  readonly #standstillTold: (() => void)[] = [];
  #streams = 0;
  #inputs = 0;

  constructor(options: GuestOptions) {
    this.hostIp = options.hostIp;
    this.http = new GuestHttp(options);
    this.#accessToken = options.accessToken;
    this.#teamId = options.teamId;
    this.#budget = options.budget;
    this.#observe = options.observe ?? (() => {});
    const unary = this.#transport(UNARY_ANSWER_BYTES_MAX);
    this.processes = createClient(Process, unary);
    this.files = createClient(Filesystem, unary);
    this.processStreams = createClient(Process, this.#transport(STREAM_MESSAGE_BYTES_MAX));
  }

  /** Aborts at `close`, with the AgentError of calls that are made then or under way. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Ends every call under way, and each later one: each says why. */
  close(end: GuestEnd = "ended"): void {
    const [code, message, subject] = ENDS[end];
    this.#closed.abort(new AgentError(code, message, { subject }));
  }

  /** For a call that waits for one answer: aborts as `closed`, and at `cutOff` with what that was given. */
  get awaited(): AbortSignal {
    return AbortSignal.any([this.closed, this.#standstill.signal]);
  }

  /**
   * Ends the calls under way that wait for an answer, with that reason: the guest stands still, for nobody knows
   * how long. Streams stay, and later calls are made.
   */
  cutOff(reason: AgentError): void {
    this.#standstill.abort(reason);
    this.#standstill = new AbortController();
    for (const told of this.#standstillTold) told();
  }

  /** `told` is called at each `cutOff`. */
  onCutOff(told: () => void): void {
    this.#standstillTold.push(told);
  }

  /** Ends when the capsule ends, its guest stands still, the time is up, or one of the others does. */
  signal(timeoutMs: number, ...others: AbortSignal[]): AbortSignal {
    return AbortSignal.any([this.awaited, AbortSignal.timeout(timeoutMs), ...others]);
  }

  /**
   * A place for a long-lived call, to be disposed at its end. `resource_exhausted` when this capsule
   * or the whole agent has too many.
   */
  openStream(): Disposable {
    if (this.#streams >= STREAMS_PER_CAPSULE_MAX) {
      throw new AgentError(
        "resource_exhausted",
        `The capsule runs ${STREAMS_PER_CAPSULE_MAX} commands and transfers at once already`,
        { subject: "capsule" },
      );
    }
    const place = this.#budget.take();
    this.#streams += 1;
    return {
      [Symbol.dispose]: () => {
        this.#streams -= 1;
        place[Symbol.dispose]();
      },
    };
  }

  /** See StreamBudget. */
  takeAhead(): Disposable | null {
    return this.#budget.takeAhead();
  }

  /**
   * For what is kept in memory of this capsule's answers, to be disposed once it is not. Taking throws
   * `resource_exhausted`, about `subject` when capsule or team has too much, about the host when all have.
   */
  hold(subject: "capsule" | "output" = "capsule"): HeldBytes {
    const tooMuch = (whose: string, about: ErrorSubject) => () =>
      new AgentError("resource_exhausted", `Answers of ${whose} take too much memory at once`, {
        subject: about,
      });
    return this.#budget.bytes.hold([
      {
        key: this,
        bytesMax: HELD_PER_CAPSULE_BYTES_MAX,
        refuse: tooMuch("the capsule", subject),
      },
      {
        key: this.#teamId,
        bytesMax: HELD_PER_TEAM_BYTES_MAX,
        refuse: tooMuch("the team's capsules on this host", subject),
      },
      { key: null, bytesMax: HELD_BYTES_MAX, refuse: tooMuch("all capsules of the host", "host") },
    ]);
  }

  /**
   * A place for terminal input, which waits for as long as the process does not read. Apart from the
   * streams, so that those cannot keep their own terminals from being typed into.
   */
  openInput(): Disposable {
    if (this.#inputs >= INPUTS_PER_CAPSULE_MAX) {
      throw new AgentError("resource_exhausted", "Too many terminals of the capsule do not read", {
        subject: "capsule",
      });
    }
    this.#inputs += 1;
    return {
      [Symbol.dispose]: () => {
        this.#inputs -= 1;
      },
    };
  }

  /** Runs one unary call with its time limit; what it throws becomes an AgentError. */
  async call<T>(
    about: Omit<GuestCall, "closed">,
    run: (options: GuestCallOptions) => Promise<T>,
    timeoutMs = GUEST_CALL_TIMEOUT_MS,
  ): Promise<T> {
    const headers = headersOf(about);
    try {
      const answer = await run({ signal: this.signal(timeoutMs), headers });
      this.#observe("ok");
      return answer;
    } catch (error) {
      const failure = guestError(error, { ...about, closed: this.closed });
      this.#observe(failure.code);
      throw failure;
    }
  }

  /** One try to reach envd; answers its version. Throws whatever fetch throws, or AgentError. */
  async health(signal: AbortSignal): Promise<string> {
    const response = await this.http.send({ method: "GET", path: "/health", signal });
    const body = await readText(response, SMALL_ANSWER_BYTES_MAX);
    if (response.status !== 200) throw badAnswer(`status ${response.status} for /health`);
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed !== "object" || parsed === null || !("version" in parsed)) {
      throw badAnswer("no version in /health");
    }
    return guestText(String(parsed.version));
  }

  /**
   * Gives envd its token, environment, default user and the time, and a restored one fresh entropy and
   * names, before what was frozen runs. invalid_argument: it knows no such user.
   */
  async init(
    identity: GuestIdentity,
    now: Date,
    renewal: GuestRenewal | null = null,
  ): Promise<void> {
    const calledAt = performance.now();
    const hostMs = () => now.getTime() + performance.now() - calledAt;
    const signal = this.signal(GUEST_CALL_TIMEOUT_MS);
    try {
      const clock = await readClock(() => this.#timeMs(signal), hostMs);
      const clockAdvanceUs = advanceUs(clock);
      // A guest that told no time goes by the message's own: that of its arrival, one and a half trips on.
      const timestampMs = clockAdvanceUs === null ? hostMs() + clock.roundTripMs / 2 : hostMs();
      const body = {
        accessToken: this.#accessToken,
        envVars: identity.envs,
        defaultUser: identity.defaultUser,
        ...(clockAdvanceUs === null ? {} : { clockAdvanceUs }),
        capsuleId: identity.capsuleId,
        templateId: identity.templateId,
        hostname: identity.capsuleId,
        ...(renewal === null ? {} : { entropy: randomBytes(ENTROPY_BYTES).toString("hex") }),
      };
      const to = { savedToken: renewal?.savedToken ?? null, signal };
      const newestMs = await this.#postInit(body, { ...to, timestampMs });
      if (newestMs === null) return;
      // The host's clock was set back since its last message: what counts is that this one comes after.
      await this.#postInit(body, { ...to, timestampMs: newestMs + 1 });
    } catch (error) {
      throw guestError(error, { subject: "guest", closed: this.closed });
    }
  }

  /**
   * Stops the user's processes and returns once they stand still; they run again by init, or by
   * themselves after a minute. Throws AgentError: unavailable, also when they do not.
   */
  async freeze(): Promise<void> {
    await this.#control(`/freeze?maxWaitMs=${FREEZE_WAIT_MS}`);
  }

  /** The guest's own time; null: its envd does not tell it. */
  async #timeMs(signal: AbortSignal): Promise<number | null> {
    const response = await this.http.send({ method: "GET", path: "/health", signal });
    await readText(response, SMALL_ANSWER_BYTES_MAX);
    const text = response.headers.get(TIME_HEADER) ?? "";
    return TIME_MS.test(text) ? Number(text) : null;
  }

  /** Null, or the time of a message that came before and is newer, so that this one counted for nothing. */
  async #postInit(
    body: object,
    options: { timestampMs: number; savedToken: string | null; signal: AbortSignal },
  ): Promise<number | null> {
    const { savedToken, signal } = options;
    const timestamp = new Date(options.timestampMs);
    const response = await this.http.send({
      method: "POST",
      path: "/init",
      headers: {
        "Content-Type": "application/json",
        ...(savedToken ? { [TOKEN_HEADER]: savedToken } : {}),
      },
      body: JSON.stringify({ ...body, timestamp }),
      signal,
    });
    const text = await readText(response, SMALL_ANSWER_BYTES_MAX);
    // 401 is an unknown default user: a guest that was never told a token refuses none.
    if (response.status === 400 || response.status === 401) {
      throw invalidField("default_user", guestText(text));
    }
    if (response.status !== 204) {
      throw badAnswer(`status ${response.status} for /init`, guestText(text));
    }
    const newestNs = response.headers.get(NEWEST_HEADER) ?? "";
    if (!TIME_NS.test(newestNs)) return null;
    const newestMs = Number(BigInt(newestNs) / 1_000_000n);
    return newestMs > timestamp.getTime() ? newestMs : null;
  }

  async #control(path: string): Promise<void> {
    try {
      const signal = this.signal(GUEST_CALL_TIMEOUT_MS);
      const response = await this.http.send({ method: "POST", path, signal });
      const text = await readText(response, SMALL_ANSWER_BYTES_MAX);
      if (response.status !== 204) {
        throw badAnswer(`status ${response.status} for ${path}`, guestText(text));
      }
    } catch (error) {
      throw guestError(error, { subject: "guest", closed: this.closed });
    }
  }

  #transport(readMaxBytes: number) {
    return createTransport({
      httpClient: this.http.connectClient,
      baseUrl: this.http.baseUrl,
      useBinaryFormat: true,
      interceptors: [],
      acceptCompression: [],
      sendCompression: null,
      compressMinBytes: 0,
      readMaxBytes,
      writeMaxBytes: GUEST_REQUEST_BYTES_MAX,
    });
  }
}

/** As that user, who may do to files what its rights are. */
function headersOf({ user, subject }: Pick<GuestCall, "user" | "subject">) {
  return {
    ...(user === undefined ? {} : asUser(user)),
    ...(subject === "file" ? { [ENVD_RIGHTS_HEADER]: "user" } : {}),
  };
}

/** The headers that make envd act as that user. */
export function asUser(user: string): Record<string, string> {
  return { Authorization: `Basic ${Buffer.from(`${user}:`).toString("base64")}` };
}
