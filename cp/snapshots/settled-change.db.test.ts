// What is known of a change that is over, while a snapshot is made of its capsule. Whoever repeats a request
// whose control plane died asks so for its end.

import { expect, test } from "bun:test";
import { decodeId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { settledChange } from "../capsules/settled.ts";

const platform = await forThisFile(TestPlatform.start());

test.each([
  ["running", "paused"],
  ["paused", "running"],
] as const)("that a capsule is %s is known during a snapshot, too", async (state, other) => {
  const id = await platform.create();
  const uuid = decodeId("capsule", id);
  if (uuid === null) throw new Error("unreachable: the capsule has an id");
  if (state === "paused") await platform.call("POST", `/v1/capsules/${id}/pause`);
  const [isCalled, isDone] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  platform.agent.faultBefore("createSnapshot", async () => {
    isCalled.resolve();
    await isDone.promise;
  });
  const body = { sandbox_id: id, name: state };
  const made = platform.call("POST", "/v1/snapshots", { body });
  await isCalled.promise;

  const { db } = platform.database;
  const settled = await settledChange(db, uuid, state);
  const wrong = await settledChange(db, uuid, other);
  isDone.resolve();

  expect((await made).status).toBe(201);
  expect([settled?.status, wrong]).toEqual(["snapshotting", null]);
});
