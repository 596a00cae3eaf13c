import { expect, test } from "bun:test";
import { sql } from "drizzle-orm";
import { newId } from "../../proto/ids.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { events } from "../db/tables.ts";
import { expireEventsLoop } from "../loops/expire-events.ts";
import { recordCapsuleEvents, SYSTEM_ACTOR } from "./outbox.ts";

test("events are forgotten after 30 days, and not before", async () => {
  await using database = await cloneDatabase();
  const event = {
    teamId: newId("team"),
    capsuleId: newId("capsule"),
    type: "capsule.create",
    outcome: "success",
    actor: SYSTEM_ACTOR,
    metadata: {},
    error: "",
  } as const;
  await recordCapsuleEvents(database.db, [event, event, event]);
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
