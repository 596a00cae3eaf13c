// What happens to a team's things, told to its clients as it happens. There is no past and no promise: a client
// looks at what it shows when it comes back, and events only say that it should.

import type { GrantedCaller } from "../auth/authenticator.ts";
import type { OpenStreams } from "../auth/open-streams.ts";
import type { Db } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { capsuleOf, type EventFrames, type EventRow } from "./event.ts";
import {
  EVENTS_QUEUED_MAX,
  EVENTS_READ_MAX,
  KEEPALIVE_MS,
  LATE_MAX,
  LATE_MS_MAX,
  STREAMS_MAX,
  STREAMS_PER_TEAM_MAX,
} from "./limits.ts";
import { selectCapsules, selectEvents, selectNewestId } from "./queries.ts";

export interface EventStreamRequest {
  /** Whose team's events they are; the stream ends when they may not act for it any more. */
  readonly caller: GrantedCaller;
  readonly frames: EventFrames;
}

interface Stream extends EventStreamRequest {
  readonly controller: ReadableStreamDefaultController<Uint8Array>;
  keptAliveAtMs: number;
  readonly watch: Disposable;
}

export class EventStreams {
  readonly #db: Db;
  readonly #openStreams: OpenStreams;
  readonly #monotonicMs: () => number;
  readonly #streams = new Set<Stream>();
  /** The highest number of an event that was read; null while nobody listens. */
  #position: number | null = null;
  /** Numbers below that of which no event was seen yet, with when they were missed first. */
  readonly #late = new Map<number, number>();

  constructor(deps: { db: Db; openStreams: OpenStreams; monotonicMs: () => number }) {
    this.#db = deps.db;
    this.#openStreams = deps.openStreams;
    this.#monotonicMs = deps.monotonicMs;
  }

  /**
   * What happens from now on. Throws `rate_limited` for a team with too many streams, and
   * `service_unavailable` when there are too many in all.
   */
  async open(request: EventStreamRequest): Promise<ReadableStream<Uint8Array>> {
    if (this.#position === null) {
      const newest = await selectNewestId(this.#db);
      // Another one may have begun meanwhile, and has read from there.
      this.#position ??= newest;
    }
    const { teamId } = request.caller;
    const ofTeam = [...this.#streams].filter(({ caller }) => caller.teamId === teamId);
    if (ofTeam.length >= STREAMS_PER_TEAM_MAX) {
      throw new AppError(
        "rate_limited",
        `a team has at most ${STREAMS_PER_TEAM_MAX} event streams`,
      );
    }
    if (this.#streams.size >= STREAMS_MAX) {
      throw new AppError("service_unavailable", "too many streams are open: try again");
    }
    return this.#stream(request);
  }

  /** One pass: tells what has happened since the last one. */
  async deliver(): Promise<{ delivered: number; lost: number }> {
    const counts = { delivered: 0, lost: 0 };
    if (this.#streams.size === 0) {
      this.#position = null;
      this.#late.clear();
      return counts;
    }
    let read = EVENTS_READ_MAX;
    while (read === EVENTS_READ_MAX && this.#position !== null) {
      const rows = await this.#read(this.#position);
      await this.#tell(rows, counts);
      read = rows.length;
    }
    this.#keepAlive();
    return counts;
  }

  /** Ends all streams: the control plane ends. */
  closeAll(): void {
    for (const stream of this.#streams) this.#end(stream);
  }

  #stream(request: EventStreamRequest): ReadableStream<Uint8Array> {
    let stream: Stream | undefined;
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          const begun: Stream = {
            ...request,
            controller,
            keptAliveAtMs: this.#monotonicMs(),
            // Nobody needs to sit before a page that shows them.
            watch: this.#openStreams.watch(request.caller, {
              isUse: false,
              end: () => this.#end(begun),
            }),
          };
          stream = begun;
          this.#streams.add(begun);
          controller.enqueue(request.frames.connected);
        },
        cancel: () => {
          if (stream !== undefined) this.#forget(stream);
        },
      },
      { highWaterMark: EVENTS_QUEUED_MAX },
    );
  }

  /**
   * Numbers are given before a transaction ends, so that a lower one may appear after a higher one: what was
   * passed over is looked for as long as it may come.
   */
  async #read(after: number): Promise<EventRow[]> {
    const late = [...this.#late.keys()];
    const rows = await selectEvents(this.#db, { after, late, limit: EVENTS_READ_MAX });
    const now = this.#monotonicMs();
    let expected = after + 1;
    for (const { id } of rows) {
      this.#late.delete(id);
      for (; expected < id && this.#late.size < LATE_MAX; expected += 1) {
        this.#late.set(expected, now);
      }
      expected = Math.max(expected, id + 1);
    }
    this.#position = expected - 1;
    for (const [id, since] of this.#late) {
      if (now - since > LATE_MS_MAX) this.#late.delete(id);
    }
    return rows;
  }

  async #tell(rows: readonly EventRow[], counts: { delivered: number; lost: number }) {
    const teams = new Set([...this.#streams].map(({ caller }) => caller.teamId));
    const wanted = rows.filter(({ teamId }) => teams.has(teamId));
    const ids = new Set(wanted.map(capsuleOf).filter((id) => id !== null));
    const capsules = await selectCapsules(this.#db, [...ids]);
    const byId = new Map(capsules.map((row) => [row.id, row]));
    for (const event of wanted) {
      const id = capsuleOf(event);
      const capsule = id === null ? undefined : byId.get(id);
      // Encoded once, however many listen.
      const encoded = new Map<EventFrames, Uint8Array>();
      for (const stream of this.#streams) {
        if (stream.caller.teamId !== event.teamId) continue;
        const { frames } = stream;
        const frame = encoded.get(frames) ?? frames.event(event, capsule);
        encoded.set(frames, frame);
        if (this.#say(stream, frame)) counts.delivered += 1;
        else counts.lost += 1;
      }
    }
  }

  #keepAlive(): void {
    const now = this.#monotonicMs();
    for (const stream of this.#streams) {
      if (now - stream.keptAliveAtMs < KEEPALIVE_MS) continue;
      stream.keptAliveAtMs = now;
      this.#say(stream, stream.frames.keepalive);
    }
  }

  /** False if the client is too far behind, or gone. */
  #say(stream: Stream, frame: Uint8Array): boolean {
    if (!this.#streams.has(stream) || (stream.controller.desiredSize ?? 0) <= 0) return false;
    stream.controller.enqueue(frame);
    return true;
  }

  #end(stream: Stream): void {
    if (this.#forget(stream)) stream.controller.close();
  }

  #forget(stream: Stream): boolean {
    stream.watch[Symbol.dispose]();
    return this.#streams.delete(stream);
  }
}
