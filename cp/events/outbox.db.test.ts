import { expect, test } from "bun:test";
import { newId } from "../../proto/ids.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { events } from "../db/tables.ts";
import { recordEvents } from "./outbox.ts";

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
