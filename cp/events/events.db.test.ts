// Events as they are told behind the change: in one order for everybody, each of them, from the database.

import { afterEach, expect, test } from "bun:test";
import { Redis } from "ioredis";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { recordEvents, SYSTEM_ACTOR } from "./outbox.ts";
import type { Placed } from "./placed.ts";
import { EVENT_STREAM, EVENT_STREAM_GROUP, Events } from "./service.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { redis } = platform;
const { db, sql } = platform.database;

const open = (placed: (placed: Placed) => void = () => {}) =>
  new Events({ db, redis, retentionDays: 30, placed: async (_tx, places) => placed(places) });
const ALL = { teamId: null, resources: [], types: [] };

const tell = (id: string, { teamId = newId("team"), type = "capsule.create", q = db } = {}) =>
  recordEvents(q, [
    { teamId, subject: { type: "sandbox", id }, type, outcome: "success", actor: SYSTEM_ACTOR },
  ]);

afterEach(async () => {
  await sql`delete from events`;
  await redis.del(EVENT_STREAM);
});

/** Which resources the stream of Redis tells of, in its order. */
async function streamed(): Promise<string[]> {
  const entries = await redis.xrange(EVENT_STREAM, "-", "+");
  return entries.map(([, [, payload = "{}"]]) => JSON.parse(payload).resource.id);
}

/** All pages from there on; `more` happens between two of them. */
async function walk(events: Events, after?: Id<"event">, more = async () => {}) {
  const met: string[] = [];
  let last = after;
  while (true) {
    const { rows, hasMore } = await events.list(ALL, { after: last, limit: 2 });
    met.push(...rows.map(({ resource }) => resource.id));
    last = rows.at(-1)?.eventId ?? last;
    await more();
    if (!hasMore) return { met, last };
  }
}

test("who follows the past meets what is committed late, once, behind what was read before", async () => {
  const events = open();
  const committing = Promise.withResolvers<void>();
  const written = Promise.withResolvers<void>();
  const slow = db.transaction(async (tx) => {
    await recordEvents(tx, [
      {
        ...{ teamId: newId("team"), subject: { type: "sandbox", id: "slow" } },
        ...{ type: "capsule.create", outcome: "success", actor: SYSTEM_ACTOR },
      },
    ]);
    written.resolve();
    await committing.promise;
  });
  await written.promise;
  for (const id of ["a", "b", "c"]) await tell(id);
  const first = await walk(events);
  committing.resolve();
  await slow;
  const second = await walk(events, first.last);

  expect([first.met, second.met]).toEqual([["a", "b", "c"], ["slow"]]);
  expect((await walk(events, second.last)).met).toEqual([]);
});

test("each event gets one place, handed on in the transaction that gives it", async () => {
  const places: Placed[] = [];
  for (let number = 0; number < 40; number += 1) await tell(`${number}`);
  const broken = open(() => {
    throw new Error("as a test wants it");
  });

  await expect(broken.place()).rejects.toThrow("as a test wants it");
  const all = [open, open, open].map((make) => make((placed) => void places.push(placed)));
  await Promise.all(all.map((events) => events.place()));

  expect(places.reduce((sum, { count }) => sum + count, 0)).toBe(40);
  const rows = await sql`select count(distinct position)::int as places, array_agg(
    (resource->>'id')::int order by position) as ids from events`;
  expect(rows).toMatchObject([{ places: 40, ids: Array.from({ length: 40 }, (_, i) => i) }]);
});

test("the stream of Redis has each event once and in order, whoever dies in between", async () => {
  const events = open();
  for (const id of ["a", "b", "c"]) await tell(id);
  await events.place();
  await events.publish();
  // As if the one that published had died before it could write so.
  await sql`update events set published_at = null where resource->>'id' <> 'a'`;
  for (const id of ["d", "e"]) await tell(id);
  await events.place();

  await Promise.all([events.publish(), open().publish(), open().publish()]);

  expect(await streamed()).toEqual(["a", "b", "c", "d", "e"]);
  expect(await sql`select id from events where published_at is null`).toHaveLength(0);
  const groups = (await redis.xinfo("GROUPS", EVENT_STREAM)) as unknown[][];
  expect(groups[0]).toContain(EVENT_STREAM_GROUP);
});

test("a Redis that was flushed gets what comes next, and its group again", async () => {
  const events = open();
  await tell("before");
  await events.place();
  await events.publish();
  await redis.del(EVENT_STREAM);
  await tell("after");
  await events.place();
  await events.publish();

  expect(await streamed()).toEqual(["after"]);
  expect(await redis.xinfo("GROUPS", EVENT_STREAM)).toHaveLength(1);
});

test("while Redis is away events go to whoever keeps queues of them, and to Redis once it is back", async () => {
  const away = new Redis({
    ...{ host: "127.0.0.1", port: 9, lazyConnect: true, enableOfflineQueue: false },
    ...{ retryStrategy: () => null, maxRetriesPerRequest: 0 },
  });
  away.on("error", () => {});
  const places: Placed[] = [];
  const without = new Events({
    ...{ db, redis: away, retentionDays: 30 },
    placed: async (_tx, placed) => void places.push(placed),
  });
  for (const id of ["a", "b"]) await tell(id);

  await without.place();
  await expect(without.publish()).rejects.toThrow();
  away.disconnect();
  const meanwhile = await streamed();
  await open().publish();

  expect(places.map(({ count }) => count)).toEqual([2]);
  expect([meanwhile, await streamed()]).toEqual([[], ["a", "b"]]);
});

test("events are forgotten after their time, and not before; who had read up to one is told", async () => {
  const events = open();
  for (const id of ["old", "kept", "fresh"]) await tell(id);
  const [first] = (await events.list(ALL, { after: undefined, limit: 1 })).rows;
  await sql`update events set created_at = now() - interval '31 days' where resource->>'id' = 'old'`;
  await sql`update events set created_at = now() - interval '29 days' where resource->>'id' = 'kept'`;

  expect(await events.expire(100)).toBe(1);
  expect((await walk(events)).met).toEqual(["kept", "fresh"]);
  await expect(walk(events, first?.eventId)).rejects.toThrow("after: is no event that is kept");
});

test("a team reads its own past, of what it asks for", async () => {
  const [person, other] = [await platform.person(), await platform.person()];
  const { token } = person;
  const created = await platform.call("POST", "/v1/api-keys", { token, body: {} });
  const [team] = await sql<{ team_id: Id<"team"> }[]>`select team_id from team_api_keys
    where key_prefix = ${created.body.key.slice(0, 10)}`;
  const teamId = team?.team_id ?? newId("team");
  await tell("cl-a", { teamId });
  await tell("cl-a", { teamId, type: "capsule.state.changed" });
  await tell("cl-b", { teamId, type: "capsule.pause" });
  await tell("theirs");

  const ask = async (query: string, who = person) => {
    const { status, body } = await platform.call("GET", `/v1/events${query}`, { token: who.token });
    const items = (body.items ?? []) as { event: string; resource: { id: string } }[];
    const told = items.map(({ event, resource }) => `${event} ${resource.id}`);
    return { status, told, body };
  };
  const all = await ask("");

  expect(all.told).toEqual(["capsule.create cl-a", "capsule.pause cl-b"]);
  expect<unknown>(all.body).toEqual({
    items: [expect.anything(), expect.anything()],
    ...{ has_more: false, next_after: expect.stringMatching(/^evt-[0-9a-z]{25}$/) },
  });
  expect((all.body.items as unknown[])[0]).toEqual({
    ...{ id: expect.stringMatching(/^evt-/), event: "capsule.create", outcome: "success" },
    ...{ timestamp: expect.stringMatching(/Z$/), team_id: encodeId("team", teamId) },
    ...{ actor: { type: "system" }, resource: { id: "cl-a", type: "sandbox" } },
  });
  const first = await ask("?limit=1");
  expect([
    first.body.has_more,
    (await ask(`?after=${first.body.next_after}`)).told,
    (await ask("?resource=cl-b,host")).told,
    (await ask("?type=capsule.state.changed")).told,
    (await ask("?resource=snapshot")).told,
    (await ask("", other)).told,
  ]).toEqual([
    true,
    ["capsule.pause cl-b"],
    ["capsule.pause cl-b"],
    ["capsule.state.changed cl-a"],
    [],
    [],
  ]);
  const refusals = ["?after=evt-1", `?after=${encodeId("event", newId("event"))}`, "?limit=0"];
  for (const query of refusals) expect((await ask(query)).status).toBe(400);
});
