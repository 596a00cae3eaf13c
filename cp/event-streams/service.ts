// What happens to a team's things, told to its clients as it happens.
//
// Events are read in the order of their positions, once for all clients. A client that comes back with the last
// event that it was told, or that reads slower than things happen, is behind: what it has not been told is read for
// it alone, as fast as it takes it, until it is where the others are. So nobody loses anything, and what is held for
// a client is a few events. One that takes nothing for a while is sent away, and told so: it may come back.

import type { Id } from "../../proto/ids.ts";
import type { GrantedCaller, UserCaller } from "../auth/authenticator.ts";
import type { OpenStreams } from "../auth/open-streams.ts";
import type { Db } from "../db/client.ts";
import { AppError } from "../errors.ts";
import type { Events } from "../events/service.ts";
import { capsuleOf, type EventFrames, type EventRow } from "./event.ts";
import {
  CATCHING_UP_MAX,
  EVENTS_QUEUED_MAX,
  EVENTS_READ_MAX,
  KEEPALIVE_MS,
  STALL_MS_MAX,
  STREAMS_MAX,
  STREAMS_PER_TEAM_MAX,
} from "./limits.ts";
import { findPosition, selectCapsules, selectEvents, selectNewestPosition } from "./queries.ts";

/** Whose team's events they are, or who gets those of all; the stream ends when they may not have them any more. */
type Recipient = { readonly caller: GrantedCaller } | { readonly administrator: UserCaller };

export type EventStreamRequest = Recipient & {
  readonly frames: EventFrames;
  /** The last event that the client was told before; without it only what comes is told. */
  readonly after?: Id<"event">;
};

interface Stream {
  readonly frames: EventFrames;
  /** Null: of all teams. */
  readonly teamId: Id<"team"> | null;
  readonly controller: ReadableStreamDefaultController<Uint8Array>;
  readonly watch: Disposable;
  keptAliveAtMs: number;
  /** Of the last event that it was told, or need not be. */
  position: number;
  isBehind: boolean;
  /** Since when its client takes nothing; null: it does. */
  fullSinceMs: number | null;
}

/** `told` counts an event once for each client. */
type Counts = Record<"told" | "stalled", number>;

export interface EventStreamsDeps {
  readonly db: Db;
  readonly events: Pick<Events, "place">;
  readonly openStreams: OpenStreams;
  readonly monotonicMs: () => number;
}

export class EventStreams {
  readonly #deps: EventStreamsDeps;
  readonly #streams = new Set<Stream>();
  /** Up to where events were read; null while nobody listens. */
  #position: number | null = null;

  constructor(deps: EventStreamsDeps) {
    this.#deps = deps;
  }

  /**
   * What happens from now on, or after the event that the client was told last; of one that is not kept any more it
   * is told so first. Throws `rate_limited` for a team with too many streams, and `service_unavailable` when there are
   * too many in all.
   */
  async open(request: EventStreamRequest): Promise<ReadableStream<Uint8Array>> {
    const { db, events } = this.#deps;
    const { after: id } = request;
    const teamId = teamOf(request);
    if (this.#position === null) {
      await events.place();
      const newest = await selectNewestPosition(db);
      // Another one may have begun meanwhile, and has read from there.
      this.#position ??= newest;
    }
    const after = id === undefined ? undefined : await findPosition(db, { teamId, id });
    const ofTeam = [...this.#streams].filter((stream) => stream.teamId === teamId);
    if (ofTeam.length >= STREAMS_PER_TEAM_MAX) {
      throw new AppError(
        "rate_limited",
        `a team, or the administrators, have at most ${STREAMS_PER_TEAM_MAX} event streams`,
      );
    }
    if (this.#streams.size >= STREAMS_MAX) {
      throw new AppError("service_unavailable", "too many streams are open: try again");
    }
    return this.#stream(request, after);
  }

  /** One pass: tells what has happened since the last one. */
  async deliver(): Promise<Counts> {
    const counts = { told: 0, stalled: 0 };
    if (this.#streams.size === 0) {
      this.#position = null;
      return counts;
    }
    const { db, events } = this.#deps;
    await events.place();
    let read = EVENTS_READ_MAX;
    while (read === EVENTS_READ_MAX && this.#position !== null) {
      const rows = await selectEvents(db, { after: this.#position, teamId: null, limit: read });
      await this.#tell(rows, counts);
      read = rows.length;
    }
    await this.#catchUp(counts);
    this.#keepAlive(counts);
    return counts;
  }

  /** Ends all streams: the control plane ends. */
  closeAll(): void {
    for (const stream of this.#streams) this.#end(stream);
  }

  #stream(request: EventStreamRequest, after: number | undefined): ReadableStream<Uint8Array> {
    const { monotonicMs } = this.#deps;
    const { frames } = request;
    let stream: Stream | undefined;
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          const begun: Stream = {
            ...{ frames, teamId: teamOf(request) },
            ...{ controller, keptAliveAtMs: monotonicMs(), fullSinceMs: null },
            ...{ position: after ?? this.#position ?? 0, isBehind: after !== undefined },
            watch: this.#watch(request, () => this.#end(begun)),
          };
          stream = begun;
          this.#streams.add(begun);
          controller.enqueue(frames.connected);
          if (request.after !== undefined && after === undefined) controller.enqueue(frames.reset);
        },
        cancel: () => {
          if (stream !== undefined) this.#forget(stream);
        },
      },
      { highWaterMark: EVENTS_QUEUED_MAX },
    );
  }

  #watch(request: EventStreamRequest, end: () => void): Disposable {
    const { openStreams } = this.#deps;
    if ("administrator" in request) {
      return openStreams.watchAdministrator(request.administrator, end);
    }
    // Nobody needs to sit before a page that shows them.
    return openStreams.watch(request.caller, { isUse: false, end });
  }

  /** Tells those that are where everybody is; whoever has no room is behind from there on. */
  async #tell(rows: readonly EventRow[], counts: Counts): Promise<void> {
    const last = rows.at(-1)?.position;
    if (last === undefined || last === null) return;
    const teams = new Set([...this.#streams].map(({ teamId }) => teamId));
    const wanted = rows.filter(({ teamId }) => teams.has(teamId) || teams.has(null));
    const capsules = await this.#capsulesOf(wanted);
    for (const event of wanted) {
      // Encoded once, however many listen.
      const encoded = new Map<EventFrames, Uint8Array>();
      for (const stream of this.#streams) {
        if (stream.isBehind || (stream.teamId ?? event.teamId) !== event.teamId) continue;
        const { frames } = stream;
        const frame = encoded.get(frames) ?? frames.event(event, capsules(event));
        encoded.set(frames, frame);
        if (this.#say(stream, frame, event)) counts.told += 1;
        else stream.isBehind = true;
      }
    }
    for (const stream of this.#streams) if (!stream.isBehind) stream.position = last;
    this.#position = last;
  }

  /** Tells those that are behind, each as much as it takes. */
  async #catchUp(counts: Counts): Promise<void> {
    const behind = [...this.#streams].filter((stream) => stream.isBehind && roomOf(stream) > 0);
    for (const stream of behind.slice(0, CATCHING_UP_MAX)) {
      const upTo = this.#position;
      if (upTo === null) return;
      const limit = roomOf(stream);
      const { teamId, position: after } = stream;
      const rows = await selectEvents(this.#deps.db, { after, upTo, teamId, limit });
      const capsules = await this.#capsulesOf(rows);
      for (const event of rows) {
        if (this.#say(stream, stream.frames.event(event, capsules(event)), event)) counts.told += 1;
      }
      // The others come first the next time.
      if (this.#streams.delete(stream)) this.#streams.add(stream);
      if (rows.length === limit) continue;
      stream.isBehind = false;
      stream.position = upTo;
    }
  }

  async #capsulesOf(rows: readonly EventRow[]) {
    const ids = new Set(rows.map(capsuleOf).filter((id) => id !== null));
    const capsules = await selectCapsules(this.#deps.db, [...ids]);
    const byId = new Map(capsules.map((row) => [row.id, row]));
    return (event: EventRow) => {
      const id = capsuleOf(event);
      return id === null ? undefined : byId.get(id);
    };
  }

  #keepAlive(counts: Counts): void {
    const now = this.#deps.monotonicMs();
    for (const stream of this.#streams) {
      if (roomOf(stream) > 0) stream.fullSinceMs = null;
      else stream.fullSinceMs ??= now;
      if (stream.fullSinceMs !== null && now - stream.fullSinceMs > STALL_MS_MAX) {
        counts.stalled += 1;
        stream.controller.enqueue(stream.frames.stalled);
        this.#end(stream);
      } else if (now - stream.keptAliveAtMs >= KEEPALIVE_MS) {
        stream.keptAliveAtMs = now;
        this.#say(stream, stream.frames.keepalive);
      }
    }
  }

  /** False if the client has no room, or is gone. */
  #say(stream: Stream, frame: Uint8Array, event?: EventRow): boolean {
    if (!this.#streams.has(stream) || roomOf(stream) <= 0) return false;
    stream.controller.enqueue(frame);
    stream.position = event?.position ?? stream.position;
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

function roomOf({ controller }: Stream): number {
  return controller.desiredSize ?? 0;
}

function teamOf(request: EventStreamRequest): Id<"team"> | null {
  return "administrator" in request ? null : request.caller.teamId;
}
