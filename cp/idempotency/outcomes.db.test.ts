// What a key stands for when its work ends, and when two control planes know of one end.

import { expect, test } from "bun:test";
import { type Id, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { AppError } from "../errors.ts";
import { answerOnce, type KeyedWork } from "./answer-once.ts";
import { claimKey, findKey, keepOutcome } from "./service.ts";

const platform = await forThisFile(TestPlatform.start());
const { db } = platform.database;
type Work = KeyedWork<"capsule", string>;

const keyNamed = (key: string) => ({ teamId: platform.team.id, key, requestHash: "hash" });
/** Work that begins, and then ends so. */
const ending = (end: () => Promise<string>): Work => ({
  kind: "capsule",
  areFailuresKept: true,
  run: async (claim) => {
    const ids = [newId("capsule")];
    await db.transaction(async (tx) => await claim?.(tx, ids));
    const done = end();
    done.catch(() => {});
    return { ids, done };
  },
  settled: async () => "settled",
  found: async () => "found",
});
const answer = async (key: string, work: Work) => {
  const { done } = await answerOnce(db, keyNamed(key), work);
  return await done.catch((error: unknown) => (error instanceof AppError ? error.code : error));
};
const fails = (code: "service_unavailable" | "agent_error") =>
  ending(() => Promise.reject(new AppError(code, "no")));

test("a failure is what its key stands for, unless it asks to try again", async () => {
  const answers = [];
  for (const code of ["agent_error", "service_unavailable"] as const) {
    answers.push(await answer(code, fails(code)), await answer(code, fails(code)));
  }
  const kept = await Promise.all(
    ["agent_error", "service_unavailable"].map((key) => findKey(db, keyNamed(key))),
  );

  // The second time the end is asked for, and the record knows of one.
  expect(answers).toEqual(["agent_error", "agent_error", "service_unavailable", "settled"]);
  expect(kept.map((row) => row?.code)).toEqual(["agent_error", ""]);
});

test("an end that was kept while it was looked for counts, whatever was found", async () => {
  const key = keyNamed("meanwhile");
  await db.transaction((tx) => claimKey(tx, key, { kind: "capsule", ids: [newId("capsule")] }));
  const work: Work = {
    ...ending(async () => "unreachable"),
    settled: async () => {
      await keepOutcome(db, key, new AppError("agent_error", "no"));
      return "settled";
    },
  };

  expect(await answer(key.key, work)).toBe("agent_error");
});

test("a key that another kind of work has is a conflict, were the requests alike", async () => {
  const key = keyNamed("kind");
  const templateId: string = crypto.randomUUID();
  await db.transaction((tx) => claimKey(tx, key, { kind: "template", ids: [templateId] }));
  const begun: Id<"capsule">[] = [];

  const asked = answerOnce(
    db,
    key,
    ending(async () => "unreachable"),
  ).then(({ ids }) => {
    begun.push(...ids);
  });

  expect(await asked.catch((error: AppError) => error.code)).toBe("conflict");
  expect(begun).toEqual([]);
});
