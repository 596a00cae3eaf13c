import { expect, test } from "bun:test";
import { sql } from "drizzle-orm";
import { newId } from "../../proto/ids.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { events } from "../db/tables.ts";
import { expireEventsLoop } from "../loops/expire-events.ts";
import { recordEvents, SYSTEM_ACTOR } from "./outbox.ts";

test("what is recorded keeps its order, and says whom it is about and who did it", async () => {
  await using database = await cloneDatabase();
  const actor = { type: "api_key", id: "key-1", name: "ci" } as const;
  const teamId = newId("team");
  const about = (id: string) => ({ teamId, subject: { type: "snapshot", id }, actor });

  await recordEvents(database.db, []);
  await recordEvents(database.db, [
    { ...about("a"), type: "template.snapshot.create", outcome: "success" },
    { ...about("b"), type: "template.snapshot.create", outcome: "error", error: "no room" },
  ]);

  const recorded = await database.db.select().from(events).orderBy(events.id);
  expect(recorded.map(({ resource, error, metadata }) => [resource, error, metadata])).toEqual([
    [{ type: "snapshot", id: "a" }, "", {}],
    [{ type: "snapshot", id: "b" }, "no room", {}],
  ]);
  expect(recorded.map((event) => event.actor)).toEqual([actor, actor]);
});

test("events are forgotten after 30 days, and not before", async () => {
  await using database = await cloneDatabase();
  const event = {
    teamId: newId("team"),
    subject: { type: "sandbox", id: "cl-1" },
    type: "capsule.create",
    outcome: "success",
    actor: SYSTEM_ACTOR,
    metadata: {},
    error: "",
  } as const;
  await recordEvents(database.db, [event, event, event]);
  const age = (id: number, days: number) =>
    database.db.execute(
      sql`update events set created_at = now() - make_interval(days => ${days}) where id = ${id}`,
    );
  await age(1, 31);
  await age(2, 29);

  const counts = await expireEventsLoop(database.db).run(new AbortController().signal);

  const left = await database.db.select({ id: events.id }).from(events).orderBy(events.id);
  expect(counts).toEqual({ expired: 1 });
  expect(left).toEqual([{ id: 2 }, { id: 3 }]);
});
