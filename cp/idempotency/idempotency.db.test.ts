import { expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq, sql } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  type Answer,
  addTeam,
  TestControlPlane,
  TestPlatform,
  type TestTeam,
  toAnswer,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, hosts, idempotencyKeys } from "../db/tables.ts";
import { AppError } from "../errors.ts";
import { expireIdempotencyKeysLoop } from "../loops/expire-idempotency-keys.ts";
import { freeKey, keepOutcome } from "./service.ts";

const platform = await forThisFile(TestPlatform.start());

function create(key: string, body: unknown = {}, team?: TestTeam): Promise<Answer> {
  const headers = { "idempotency-key": key };
  return platform.call("POST", "/v1/capsules", { body, headers, ...(team ? { team } : {}) });
}

async function capsuleCount(): Promise<number> {
  return (await platform.database.db.select().from(capsules)).length;
}

test("a repeated create is answered by the first one, whatever became of its capsule", async () => {
  const before = await capsuleCount();

  const first = await create("repeat");
  const again = await create("repeat");
  await platform.call("DELETE", `/v1/capsules/${first.body.id}`);
  const later = await create("repeat");

  expect(first.status).toBe(201);
  expect<unknown>(again).toEqual(first);
  expect(later).toMatchObject({ status: 201, body: { id: first.body.id, status: "stopped" } });
  expect(await capsuleCount()).toBe(before + 1);
});

test("the order of fields makes no other body", async () => {
  const first = await create("order", { vcpus: 1, metadata: { a: "1", b: "2" } });
  const again = await create("order", { metadata: { b: "2", a: "1" }, vcpus: 1 });

  expect(again.body.id).toBe(first.body.id);
});

test("another body under the same key is a conflict", async () => {
  await create("reuse", { vcpus: 1 });

  const answer = await create("reuse", { vcpus: 2 });

  expect([answer.status, answer.body.error.code]).toEqual([409, "conflict"]);
  expect(answer.body.error.message).toStartWith("idempotency-key: ");
});

test("the same key of another team is another key", async () => {
  const other = await addTeam(platform.database);

  const [first, second] = [await create("shared"), await create("shared", {}, other)];

  expect(second.status).toBe(201);
  expect(second.body.id).not.toBe(first.body.id);
});

test("ten creates at once with one key, on two control planes, make one capsule", async () => {
  await using second = await TestControlPlane.start(platform.database);
  platform.agent.bootMs = 150;
  const before = await capsuleCount();
  const request = () =>
    new Request("http://localhost/v1/capsules", {
      method: "POST",
      headers: { "x-api-key": platform.team.apiKey, "idempotency-key": "storm" },
      body: "{}",
    });

  const answers = await Promise.all(
    Array.from({ length: 5 }, () => [platform.controlPlane, second])
      .flat()
      .map(async (each) => toAnswer(await each.handle(request()))),
  );

  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
  expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
  expect(await capsuleCount()).toBe(before + 1);
  platform.agent.bootMs = 0;
});

test("a create that failed on its host fails again with the same answer, without the host", async () => {
  platform.agent.faultBefore("createSandbox", () => {
    throw new ConnectError("broken", Code.Internal);
  });
  const first = await create("fails");
  const calls = platform.agent.calls.length;

  const again = await create("fails");

  expect([first.status, first.body.error.code]).toEqual([502, "agent_error"]);
  // Each request has a name of its own.
  const { request_id: _own, ...failure } = first.body.error as Record<string, unknown>;
  expect(again).toMatchObject({ status: first.status, body: { error: failure } });
  expect(platform.agent.calls.length).toBe(calls);
});

// A client that repeats because there was no room must be able to succeed.
test("a create that came to nothing leaves its key free", async () => {
  await platform.database.db.update(hosts).set({ status: "draining" });
  const refused = await create("free");
  await platform.database.db.update(hosts).set({ status: "online" });

  const again = await create("free");

  expect([refused.status, again.status]).toEqual([503, 201]);
});

// A host that restarts cuts creates off: whoever repeats one must get a capsule.
test("a create that was cut off from its host leaves its key free", async () => {
  await platform.database.db.update(hosts).set({ address: "127.0.0.1:1" });
  const cutOff = await create("cut off");
  await platform.database.db.update(hosts).set({ address: platform.agent.address });

  const again = await create("cut off");

  expect([cutOff.status, cutOff.body.error.code]).toEqual([503, "no_hosts_available"]);
  expect(again.status).toBe(201);
});

test("a create whose control plane died is answered by what became of the capsule", async () => {
  const first = await create("orphan");
  await platform.database.db
    .update(idempotencyKeys)
    .set({ code: null })
    .where(eq(idempotencyKeys.key, "orphan"));

  const again = await create("orphan");

  expect<unknown>(again).toEqual(first);
});

test("a repeated create waits while the first one is under way", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", () => hold.promise);
  const first = create("wait");
  await waitFor("the capsule on record", () => platform.states(), {
    holds: ({ starting }) => starting === 1,
  });
  let isAnswered = false;
  const again = create("wait").finally(() => {
    isAnswered = true;
  });

  await Bun.sleep(120);
  expect(isAnswered).toBe(false);
  hold.resolve();

  expect<unknown>(await again).toEqual(await first);
});

test.each([[""], ["k".repeat(256)]])("a key of %p is refused", async (key) => {
  const answer = await create(key);

  expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_request"]);
  expect(answer.body.error.message).toStartWith("idempotency-key: ");
});

test("a key lasts a day: then it is free, and forgotten by the loop", async () => {
  const first = await create("old");
  const age = async () => {
    await platform.database.db
      .update(idempotencyKeys)
      .set({ createdAt: sql`now() - interval '25 hours'` })
      .where(eq(idempotencyKeys.key, "old"));
  };
  await age();

  const second = await create("old");
  await age();
  const counts = await expireIdempotencyKeysLoop(platform.database.db).run(
    new AbortController().signal,
  );

  expect(second.status).toBe(201);
  expect(second.body.id).not.toBe(first.body.id);
  expect(counts).toEqual({ expired: 1 });
});

// Two control planes may end the same work: the one that began it, and the one that took it over.
test("how work ended is kept once, and a later word changes nothing", async () => {
  const { db } = platform.database;
  const key = { teamId: platform.team.id, key: "twice" };
  await create("twice");
  await keepOutcome(db, key, new AppError("agent_error", "too late"));

  expect(await outcomeOf("twice")).toEqual([{ code: "", message: "" }]);
});

test("a key that was taken again meanwhile is not freed by who had it before", async () => {
  const { db } = platform.database;
  const key = { teamId: platform.team.id, key: "again" };
  const subjectIds = [crypto.randomUUID()];
  const row = { ...key, requestHash: "", subjectKind: "capsule", subjectIds } as const;
  await db.insert(idempotencyKeys).values(row);
  const [taken] = await db.select().from(idempotencyKeys).where(eq(idempotencyKeys.key, "again"));

  await freeKey(db, key, new Date((taken?.createdAt.getTime() ?? 0) - 1));
  expect(await outcomeOf("again")).toHaveLength(1);
  await freeKey(db, key, taken?.createdAt);
  expect(await outcomeOf("again")).toHaveLength(0);
});

async function outcomeOf(key: string) {
  const { code, message } = idempotencyKeys;
  const columns = { code, message };
  return await platform.database.db
    .select(columns)
    .from(idempotencyKeys)
    .where(eq(idempotencyKeys.key, key));
}
