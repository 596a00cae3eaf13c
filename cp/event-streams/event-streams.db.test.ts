import { afterAll, beforeAll, expect, test } from "bun:test";
import { eq } from "drizzle-orm";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import {
  addTeam,
  TestPlatform,
  type TestTeam,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { teamApiKeys } from "../db/tables.ts";
import type { NewEvent } from "../events/new-event.ts";
import { recordEvents, SYSTEM_ACTOR } from "../events/outbox.ts";
import type { EventFrames } from "./event.ts";
import { EVENTS_QUEUED_MAX, KEEPALIVE_MS, STALL_MS_MAX, STREAMS_PER_TEAM_MAX } from "./limits.ts";
import { EVENT_FRAMES } from "./schema.ts";

/** What somebody of the team asks for. */
const of = (teamId: Id<"team">) => ({
  caller: {
    teamId,
    actor: { type: "api_key", id: newId("apiKey"), name: "tests" },
    grant: { kind: "apiKey", keyHash: "0" },
    scopes: null,
    requestsPerMinute: null,
  } as const,
  frames: EVENT_FRAMES,
});

let platform: TestPlatform;
let server: Bun.Server<unknown>;
beforeAll(async () => {
  platform = await TestPlatform.start();
  server = platform.controlPlane.listen();
});
afterAll(async () => {
  await server.stop(true);
  await platform[Symbol.asyncDispose]();
});

const deliver = () => platform.controlPlane.eventStreams.deliver();

/** A client that has heard `connected`. */
class Listener implements AsyncDisposable {
  readonly #ending = new AbortController();
  headers = new Headers();
  text = "";
  hasEnded = false;

  static async open({ apiKey }: TestTeam, lastEventId?: string): Promise<Listener> {
    const listener = new Listener();
    const response = await fetch(new URL("/v1/events/stream", server.url), {
      headers: {
        "x-api-key": apiKey,
        ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
      },
      signal: listener.#ending.signal,
    });
    expect(response.status).toBe(200);
    listener.headers = response.headers;
    void listener.#read(response).catch(() => {});
    await listener.until("the greeting", (text) => text.includes("event: connected\n"));
    return listener;
  }

  async until(what: string, holds: (text: string) => boolean): Promise<void> {
    await waitFor(what, () => this.text, { holds });
  }

  /** What it was told, but for the greeting. */
  get told(): Record<string, unknown>[] {
    const frames = this.text.split("\n\n").filter((frame) => frame.startsWith("event: "));
    return frames.slice(1).map((frame) => {
      const [kind = "", data = ""] = frame.split("\n");
      const told = JSON.parse(data.replace("data: ", ""));
      expect(kind).toBe(`event: ${told.event}`);
      return told;
    });
  }

  async #read(response: Response): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) this.text += decoder.decode(chunk);
    this.hasEnded = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
  }
}

function snapshotEvent(teamId: Id<"team">, id: string): NewEvent {
  const subject = { type: "snapshot", id };
  const type = "template.snapshot.create";
  return { teamId, subject, type, outcome: "success", actor: SYSTEM_ACTOR };
}

test("a team hears of its capsules as it happens, and of nobody else's", async () => {
  const stranger = await addTeam(platform.database);
  await platform.create();
  await using listener = await Listener.open(platform.team);
  await using other = await Listener.open(stranger);

  const id = await platform.create();
  await deliver();
  await listener.until("the end of the create", (text) => text.includes("event: capsule.create\n"));
  await recordEvents(platform.database.db, [snapshotEvent(stranger.id, "theirs")]);
  await deliver();
  await other.until("their event", (text) => text.includes("theirs"));

  expect(listener.headers.get("content-type")).toBe("text/event-stream");
  expect(listener.headers.get("x-accel-buffering")).toBe("no");
  expect(listener.text).toStartWith('event: connected\ndata: {"message":"connected"}\n\n');
  expect(listener.told.map(({ event, metadata }) => [event, metadata])).toEqual([
    ["capsule.state.changed", { to: "pending" }],
    ["capsule.state.changed", { from: "pending", to: "starting" }],
    ["capsule.create", { from: "starting", to: "running" }],
  ]);
  expect(listener.told.at(-1)).toMatchObject({
    outcome: "success",
    resource: { type: "sandbox", id },
    actor: { type: "api_key" },
    sandbox: { id, status: "running" },
    timestamp: expect.stringMatching(/Z$/),
  });
  expect(other.told.map(({ resource }) => resource)).toEqual([{ type: "snapshot", id: "theirs" }]);
});

/** An event in a transaction that has not ended, and a later one that is there; ends the transaction when called. */
async function recordSlowAndQuick(team: TestTeam): Promise<() => Promise<void>> {
  const { db } = platform.database;
  const release = Promise.withResolvers<void>();
  const isWritten = Promise.withResolvers<void>();
  const slow = db.transaction(async (tx) => {
    await recordEvents(tx, [snapshotEvent(team.id, "slow")]);
    isWritten.resolve();
    await release.promise;
  });
  await isWritten.promise;
  await recordEvents(db, [snapshotEvent(team.id, "quick")]);
  return async () => {
    release.resolve();
    await slow;
  };
}

test("an event whose transaction ends after that of a later one is told, and once", async () => {
  const { db } = platform.database;
  const team = await addTeam(platform.database);
  await using listener = await Listener.open(team);
  const endSlow = await recordSlowAndQuick(team);
  await deliver();
  await listener.until("the quick one", (text) => text.includes("quick"));

  await endSlow();
  await deliver();
  await deliver();
  await recordEvents(db, [snapshotEvent(team.id, "last")]);
  await deliver();
  await listener.until("the last one", (text) => text.includes("last"));

  const ids = listener.told.map(({ resource }) => (resource as { id: string }).id);
  expect(ids).toEqual(["quick", "slow", "last"]);
});

// A page of a dashboard has a stream; what a capsule is told as takes longer to make than to send.
test("an event is encoded once, whoever hears it, and everybody hears all of it", async () => {
  const { eventStreams } = platform.controlPlane;
  const teamId = newId("team");
  const encoded: string[] = [];
  const frames: EventFrames = {
    ...EVENT_FRAMES,
    event: (event, capsule) => {
      encoded.push(event.resource.id);
      return EVENT_FRAMES.event(event, capsule);
    },
  };
  const others: EventFrames = { ...EVENT_FRAMES, event: () => Buffer.from("other\n\n") };
  const open = (told: EventFrames) => eventStreams.open({ ...of(teamId), frames: told });
  const streams = await Promise.all([frames, frames, others, frames].map(open));
  await recordEvents(platform.database.db, [
    snapshotEvent(teamId, "a"),
    snapshotEvent(teamId, "b"),
  ]);

  const counts = await deliver();
  const heard = await Promise.all(streams.map(threeFrames));

  expect(encoded).toEqual(["a", "b"]);
  expect(counts).toEqual({ told: 8, stalled: 0 });
  const [first, second, other, third] = heard;
  expect([second, third]).toEqual([first, first]);
  expect(first?.join("")).toMatch(/"id":"a".*"id":"b"/s);
  expect(other?.slice(1)).toEqual(["other\n\n", "other\n\n"]);
});

/** The greeting and two events; then the client leaves. */
async function threeFrames(stream: ReadableStream<Uint8Array>): Promise<string[]> {
  const heard: string[] = [];
  for await (const frame of stream) {
    heard.push(Buffer.from(frame).toString());
    if (heard.length === 3) break;
  }
  return heard;
}

test("a client that reads late is told all of it in order, and holds up nobody", async () => {
  const { eventStreams } = platform.controlPlane;
  const teamId = newId("team");
  const reader = (await eventStreams.open(of(teamId))).getReader();
  const ids = Array.from({ length: 400 }, (_, i) => `${i}`);
  await recordEvents(
    platform.database.db,
    ids.map((id) => snapshotEvent(teamId, id)),
  );

  const first = await deliver();
  const heard: string[] = [];
  await reader.read();
  while (heard.length < ids.length) {
    const { value } = await reader.read();
    heard.push(/"id":"(\d+)"/.exec(Buffer.from(value ?? []).toString())?.[1] ?? "");
    if (heard.length % 16 === 0) await deliver();
  }
  await reader.cancel();

  // The greeting waits, too.
  expect(first).toEqual({ told: EVENTS_QUEUED_MAX - 1, stalled: 0 });
  expect(heard).toEqual(ids);
  expect(await deliver()).toEqual({ told: 0, stalled: 0 });
});

test("a client that takes nothing is sent away in the end, and is told so", async () => {
  const { controlPlane, database } = platform;
  const teamId = newId("team");
  const stream = await controlPlane.eventStreams.open(of(teamId));
  const many = Array.from({ length: 100 }, (_, i) => snapshotEvent(teamId, `${i}`));
  await recordEvents(database.db, many);
  await deliver();
  controlPlane.laterMs += STALL_MS_MAX + 1;
  const counts = await deliver();
  const frames: string[] = [];
  for await (const frame of stream) frames.push(Buffer.from(frame).toString());

  expect(counts).toMatchObject({ stalled: 1 });
  expect(frames).toHaveLength(EVENTS_QUEUED_MAX + 1);
  expect(frames.at(-1)).toStartWith("event: stalled\n");
});

test("who comes back with the last id is told what came after it, once and in order", async () => {
  const { db } = platform.database;
  const [team, stranger] = [await addTeam(platform.database), await addTeam(platform.database)];
  await using listener = await Listener.open(team);
  await recordEvents(db, [snapshotEvent(team.id, "heard")]);
  await deliver();
  await listener.until("the first", (text) => text.includes("heard"));
  const last = /^id: (evt-\w+)$/m.exec(listener.text)?.[1] ?? "";
  await listener[Symbol.asyncDispose]();
  const missed = Array.from({ length: 150 }, (_, i) => snapshotEvent(team.id, `missed-${i}`));
  await recordEvents(db, missed);
  await recordEvents(db, [snapshotEvent(stranger.id, "theirs")]);

  await using back = await Listener.open(team, last);
  await recordEvents(db, [snapshotEvent(team.id, "fresh")]);
  await waitFor("the fresh one", async () => {
    await deliver();
    return back.text.includes("fresh");
  });
  await using other = await Listener.open(stranger, last);
  await other.until("the reset", (text) => text.includes("event: reset\n"));
  const wrong = await fetch(new URL("/v1/events/stream", server.url), {
    headers: { "x-api-key": team.apiKey, "last-event-id": "7" },
  });

  const ids = back.told.map(({ resource }) => (resource as { id: string }).id);
  expect(ids).toEqual([...missed.map(({ subject }) => subject.id), "fresh"]);
  expect(wrong.status).toBe(400);
});

test("an administrator hears of all teams, until they are none", async () => {
  const { eventStreams, openStreams } = platform.controlPlane;
  const { db, sql } = platform.database;
  const person = newId("user");
  await sql`insert into users (id, email, name, status, is_admin)
    values (${person}, 'root@example.com', 'Root', 'active', true)`;
  const [one, two] = [await addTeam(platform.database), await addTeam(platform.database)];
  await sql`insert into sessions (id, user_id, team_id, expires_at)
    values ('5e551011', ${person}, ${one.id}, now() + interval '1 hour')`;
  const administrator = {
    ...{ id: person, email: "root@example.com", name: "Root", isAdmin: true, teamId: one.id },
    ...{ requestsPerMinute: null, role: null },
    grant: { kind: "session", id: "5e551011", until: null },
  } as const;
  const stream = await eventStreams.open({ administrator, frames: EVENT_FRAMES });
  const frames: string[] = [];
  const reading = (async () => {
    for await (const frame of stream) frames.push(Buffer.from(frame).toString());
  })();

  await recordEvents(db, [snapshotEvent(one.id, "a"), snapshotEvent(two.id, "b")]);
  await deliver();
  await openStreams.check();
  await waitFor("both", () => frames.length === 3);
  await sql`update users set is_admin = false where id = ${person}`;
  await openStreams.check();
  await reading;

  const teams = frames.slice(1).map((frame) => /"team_id":"([^"]+)"/.exec(frame)?.[1]);
  expect(teams).toEqual([one, two].map(({ id }) => encodeId("team", id)));
});

test("a silent stream is kept alive", async () => {
  const team = await addTeam(platform.database);
  await using listener = await Listener.open(team);
  await deliver();
  expect(listener.text).not.toContain("keepalive");

  platform.controlPlane.laterMs += KEEPALIVE_MS;
  await deliver();

  await listener.until("a sign of life", (text) => text.endsWith(": keepalive\n\n"));
});

test("a stream ends when its key is gone, and only then", async () => {
  const { openStreams } = platform.controlPlane;
  const [team, others] = [await addTeam(platform.database), await addTeam(platform.database)];
  await using listener = await Listener.open(team);
  await using other = await Listener.open(others);

  const before = await openStreams.check();
  await platform.database.db.delete(teamApiKeys).where(eq(teamApiKeys.teamId, team.id));
  const after = await openStreams.check();
  await waitFor("the end of the stream", () => listener.hasEnded);

  expect([before, after, other.hasEnded]).toEqual([{ ended: 0 }, { ended: 1 }, false]);
});

test("a team has a bounded number of streams, and room again when a client has gone", async () => {
  const team = await addTeam(platform.database);
  const { eventStreams } = platform.controlPlane;
  await using listener = await Listener.open(team);
  const open = () => eventStreams.open(of(team.id));
  const others = await Promise.all(Array.from({ length: STREAMS_PER_TEAM_MAX - 1 }, open));
  const tooMany = await fetch(new URL("/v1/events/stream", server.url), {
    headers: { "x-api-key": team.apiKey },
  });
  expect(tooMany.status).toBe(429);

  await listener[Symbol.asyncDispose]();

  const opened = () => open().catch(() => null);
  const room = await waitFor("room for another", opened, { holds: (stream) => stream !== null });
  await Promise.all([...others, room].map((stream) => stream?.cancel()));
});

test("who comes later hears nothing of the past", async () => {
  const { db } = platform.database;
  const team = await addTeam(platform.database);
  await recordEvents(db, [snapshotEvent(team.id, "past")]);
  await deliver();
  await using listener = await Listener.open(team);

  await recordEvents(db, [snapshotEvent(team.id, "now")]);
  await deliver();
  await listener.until("the event", (text) => text.includes("now"));

  expect(listener.text).not.toContain("past");
});
