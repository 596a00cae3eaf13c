// A move is one compare-and-set: what belongs to another operation by now, or has moved since, stays as it is.

import { expect, test } from "bun:test";
import { eq } from "drizzle-orm";
import { decodeId, type Id, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { capsules, events } from "../db/tables.ts";
import { databaseNow } from "../db/time.ts";
import { type Move, moveBesidesSnapshots, moveCapsule } from "./moves.ts";

const platform = await forThisFile(TestPlatform.start());

async function running(): Promise<Id<"capsule">> {
  return decodeId("capsule", await platform.create()) ?? newId("capsule");
}

/** The capsule and how many events tell of anything: what a move that is none leaves alike. */
async function recorded(id: Id<"capsule">) {
  const { db } = platform.database;
  const [row] = await db.select().from(capsules).where(eq(capsules.id, id));
  return { row, events: (await db.select().from(events)).length };
}

const move = (about: Pick<Move, "id"> & Partial<Move>) =>
  moveCapsule(platform.database.db, { from: "running", to: "pausing", ...about });

test("an operation moves only what is still its own", async () => {
  const id = await running();
  const before = await recorded(id);
  const own = before.row?.operationId ?? "";

  expect(await move({ id, operationId: crypto.randomUUID() })).toBeUndefined();
  expect(await recorded(id)).toEqual(before);
  expect(await move({ id, operationId: own })).toMatchObject({ status: "pausing" });
});

test("what has moved since is not moved by what was seen before", async () => {
  const id = await running();
  const before = await recorded(id);
  const seenAt = before.row?.lastUpdated ?? new Date(0);

  expect(await move({ id, unmovedSince: seenAt })).toBeUndefined();
  expect(await recorded(id)).toEqual(before);
  expect(await move({ id, unmovedSince: await databaseNow(platform.database.db) })).toMatchObject({
    status: "pausing",
  });
});

test("a capsule in another state is not moved", async () => {
  const id = await running();
  const before = await recorded(id);

  expect(await move({ id, from: "paused", to: "resuming" })).toBeUndefined();
  expect(await recorded(id)).toEqual(before);
});

// It was paused by its host, or destroyed, since its state was looked at.
test("a capsule that is another one than it was is not moved, whatever snapshots there are", async () => {
  const { db } = platform.database;
  const id = await running();
  await db.update(capsules).set({ status: "paused" }).where(eq(capsules.id, id));
  const before = await recorded(id);
  const pause = (of: Id<"capsule">) =>
    db.transaction((tx) => moveBesidesSnapshots(tx, { id: of, from: "running", to: "pausing" }));

  expect(await pause(id)).toBeUndefined();
  expect(await pause(newId("capsule"))).toBeUndefined();
  expect(await recorded(id)).toEqual(before);
});
