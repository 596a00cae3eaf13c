// Control planes that die in the middle, in this process: their operation numbers are given back as
// PostgreSQL does when a connection closes. crash.db.test.ts kills a real one.

import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq, sql } from "drizzle-orm";
import postgres from "postgres";
import { encodeId, newId } from "../../proto/ids.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { CAPSULE_ROW } from "../../tests/harness/rows.ts";
import {
  TestControlPlane,
  TestPlatform,
  toAnswer,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import type { CapsuleState } from "../capsule-states.ts";
import { capsules, events } from "../db/tables.ts";
import { LOCK_CLASS } from "../operations/lock-session.ts";
import { Operations } from "../operations/operations.ts";
import { updateDeadline } from "./queries.ts";
import { settleOperations } from "./settle.ts";

/** A session, and its locks. */
const ONE = { max: 1 };

const platform = await forThisFile(TestPlatform.start());

afterEach(async () => {
  await platform.database.db.delete(capsules);
  platform.agent.capsules.clear();
});

/** A row as a control plane leaves it that dies in that state; it was to be looked at again in an hour. */
async function abandoned(status: CapsuleState) {
  await using dead = await Operations.open(platform.database.url);
  const id = newId("capsule");
  const operationId = dead.next();
  await platform.database.db.insert(capsules).values({
    ...CAPSULE_ROW,
    id,
    operationId,
    status,
    teamId: platform.team.id,
    hostId: platform.hostId,
    stateDeadline: sql`now() + interval '1 hour'`,
    snapshottedFrom: status === "snapshotting" ? "running" : null,
  });
  return { id, operationId };
}

async function startOnHost(id: ReturnType<typeof newId<"capsule">>, operationId: string) {
  const client = platform.controlPlane.deps.agents.at(platform.agent.place);
  const sandboxId = encodeId("capsule", id);
  await client.createSandbox({ sandboxId, operationId, vcpus: 1, memoryMb: 512 });
}

function pass() {
  return settleOperations(platform.controlPlane.deps);
}

/** One that has taken over what there is, and waits for what the host says. */
async function passAtHost() {
  const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  platform.agent.faultBefore("listSandboxes", () => {
    asked.resolve();
    return answer.promise;
  });
  const passed = pass();
  await asked.promise;
  return { passed, letGo: answer.resolve };
}

async function row(id: ReturnType<typeof newId<"capsule">>) {
  const [found] = await platform.database.db.select().from(capsules).where(eq(capsules.id, id));
  return found;
}

test("an operation whose pass met a database that failed is due again in a second", async () => {
  const [{ id }, other] = [await abandoned("pending"), await abandoned("pending")];
  const { db } = platform.database;
  await db.execute(sql`create function refuse() returns trigger language plpgsql as
    'begin raise exception ''not now''; end'`);
  await db.execute(sql`create trigger refusing before update on capsules for each row
    when (new.status = 'error' and new.id = ${sql.raw(`'${id}'`)}) execute function refuse()`);

  await expect(pass()).rejects.toThrow();

  await db.execute(sql`drop function refuse() cascade`);
  expect(await row(other.id)).toMatchObject({ status: "error" });
  await waitFor("a pass that settles it", pass, {
    holds: ({ settled }) => settled === 1,
    timeoutMs: 10_000,
  });
  expect(await row(id)).toMatchObject({ status: "error" });
});

test("what a living control plane works on is left alone", async () => {
  await using living = await Operations.open(platform.database.url);
  await platform.database.db.insert(capsules).values({
    ...CAPSULE_ROW,
    id: newId("capsule"),
    operationId: living.next(),
    status: "starting",
    teamId: platform.team.id,
    hostId: platform.hostId,
    stateDeadline: sql`now() + interval '1 hour'`,
  });

  expect(await pass()).toEqual({ claimed: 0, settled: 0 });
});

test("past its deadline an operation is taken from a living control plane too", async () => {
  await using living = await Operations.open(platform.database.url);
  await platform.database.db.insert(capsules).values({
    ...CAPSULE_ROW,
    id: newId("capsule"),
    operationId: living.next(),
    status: "pending",
    teamId: platform.team.id,
    hostId: platform.hostId,
    stateDeadline: sql`now() - interval '1 second'`,
  });

  expect(await pass()).toEqual({ claimed: 1, settled: 1 });
});

test("what is taken over is left to its pass for as long as that may take", async () => {
  const { id } = await abandoned("starting");
  await platform.database.db
    .update(capsules)
    .set({ stateDeadline: sql`now() - interval '1 second'` });
  const first = await passAtHost();

  expect(await pass()).toEqual({ claimed: 0, settled: 0 });
  first.letGo();
  expect(await first.passed).toEqual({ claimed: 1, settled: 1 });
  expect(await row(id)).toMatchObject({ status: "error" });
});

test.each([
  ["failed", async () => {}],
  ["ended well", startOnHost],
] as const)(
  "a pass that learns late that a create %s says nothing of another's operation",
  async (_, before) => {
    const { id, operationId } = await abandoned("starting");
    await before(id, operationId);
    const late = await passAtHost();
    await platform.database.db.update(capsules).set({ operationId: crypto.randomUUID() });
    const taken = await row(id);

    late.letGo();
    await late.passed;

    expect(await row(id)).toEqual(taken);
  },
);

test("locks of others that have the same number are no sign of life", async () => {
  const { operationId } = await abandoned("pending");
  const number = Number.parseInt(operationId.slice(0, 8), 16) | 0;
  await using another = await cloneDatabase({ migrated: false });
  const [here, there] = [postgres(platform.database.url, ONE), postgres(another.url, ONE)];
  try {
    await here`select pg_advisory_lock(${LOCK_CLASS + 1}::int, ${number}::int)`;
    await there`select pg_advisory_lock(${LOCK_CLASS}::int, ${number}::int)`;

    expect(await pass()).toEqual({ claimed: 1, settled: 1 });
  } finally {
    await Promise.all([here.end(), there.end()]);
  }
});

test("what somebody else is at holds up no pass over the others", async () => {
  const [{ id }, other] = [await abandoned("pending"), await abandoned("pending")];

  await platform.database.db.transaction(async (tx) => {
    await tx.select().from(capsules).where(eq(capsules.id, id)).for("update");
    expect(await pass()).toEqual({ claimed: 1, settled: 1 });
  });

  expect(await row(other.id)).toMatchObject({ status: "error" });
  expect(await pass()).toEqual({ claimed: 1, settled: 1 });
});

// Its snapshot has an operation of its own, whose end is its end.
test("a capsule in snapshotting is taken over when that is late, and not with its control plane", async () => {
  const { id } = await abandoned("snapshotting");
  const { db } = platform.database;

  expect(await pass()).toEqual({ claimed: 0, settled: 0 });
  await db.update(capsules).set({ stateDeadline: sql`now() - interval '1 second'` });
  expect(await pass()).toEqual({ claimed: 1, settled: 1 });
  expect(await row(id)).toMatchObject({ status: "running" });
});

test("only whose an operation is says when it is looked at again", async () => {
  const { id, operationId } = await abandoned("starting");
  const before = await row(id);
  const { db } = platform.database;

  await updateDeadline(db, { id, operationId: crypto.randomUUID(), afterSec: 1 });
  expect(await row(id)).toEqual(before);
  await updateDeadline(db, { id, operationId, afterSec: 1 });
  expect(await row(id)).not.toEqual(before);
});

test("a create whose host was not asked has failed", async () => {
  const { id } = await abandoned("pending");

  expect(await pass()).toEqual({ claimed: 1, settled: 1 });

  expect(await row(id)).toMatchObject({ status: "error", stateDeadline: null });
});

test("a create that the host ended well runs, though nobody was told", async () => {
  const { id, operationId } = await abandoned("starting");
  await startOnHost(id, operationId);

  await pass();

  const settled = await row(id);
  expect(settled).toMatchObject({ status: "running", metadata: { vmm: "simulated" } });
  expect(settled?.hostIp).toMatch(/^10\.11\./);
  expect(settled?.startedAt).not.toBeNull();
  const all = await platform.database.db.select().from(events);
  expect(all.at(-1)).toMatchObject({
    type: "capsule.create",
    outcome: "success",
    actor: { type: "system" },
    metadata: { reason: "transient_timeout_inferred", inferred: "true" },
  });
});

test("a create that the host is still at is waited for", async () => {
  const { id, operationId } = await abandoned("starting");
  // Longer than a pass takes on a busy machine.
  platform.agent.bootMs = 1000;
  const starting = startOnHost(id, operationId);
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });

  expect(await pass()).toEqual({ claimed: 1, settled: 0 });
  expect((await row(id))?.status).toBe("starting");
  await starting;
  platform.agent.bootMs = 0;

  await waitFor("a pass that settles it", pass, { holds: ({ settled }) => settled === 1 });
  expect((await row(id))?.status).toBe("running");
});

test("a create that the host knows nothing of has failed", async () => {
  const { id } = await abandoned("starting");

  await pass();

  expect(await row(id)).toMatchObject({
    status: "error",
    reason: "the capsule did not start on its host",
  });
});

test("a create whose VMM ended is cleaned up, with the host's reason", async () => {
  const { id, operationId } = await abandoned("starting");
  await startOnHost(id, operationId);
  platform.agent.loseCapsule(encodeId("capsule", id), "the microVM ended: signal 9");

  await pass();

  expect(await row(id)).toMatchObject({ status: "error", reason: "the microVM ended: signal 9" });
  expect(platform.agent.capsules.size).toBe(0);
});

test("a destroy that its control plane did not finish is finished", async () => {
  const { id, operationId } = await abandoned("stopping");
  await startOnHost(id, operationId);

  await pass();

  expect((await row(id))?.status).toBe("stopped");
  expect(platform.agent.capsules.size).toBe(0);
});

test("while the host does not answer nothing is decided", async () => {
  const { id } = await abandoned("starting");
  platform.agent.faultBefore("listSandboxes", () => {
    throw new ConnectError("away", Code.Unavailable);
  });

  expect(await pass()).toEqual({ claimed: 1, settled: 0 });

  expect((await row(id))?.status).toBe("starting");
});

test("two control planes never take over the same operation", async () => {
  await using second = await Operations.open(platform.database.url);
  for (let count = 0; count < 10; count++) await abandoned("pending");
  const { deps } = platform.controlPlane;

  const passes = await Promise.all([
    settleOperations(deps),
    settleOperations({ ...deps, operations: second }),
    settleOperations(deps),
  ]);

  expect(passes.reduce((sum, { settled }) => sum + settled, 0)).toBe(10);
});

// The first one is not dead: it lost its connection, and with it its number.
test("a create that was taken over while its owner lived is answered by its outcome", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultAfter("createSandbox", () => hold.promise);
  const creating = platform.call("POST", "/v1/capsules", { body: {} });
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });
  await platform.database.db.update(capsules).set({ stateDeadline: sql`now()` });

  await waitFor("a pass that settles it", pass, { holds: ({ settled }) => settled === 1 });
  hold.resolve();
  const answer = await creating;

  expect(answer).toMatchObject({ status: 201, body: { status: "running" } });
  expect(platform.agent.capsules.size).toBe(1);
});

test("a control plane that stops leaves a create that hangs to the next", async () => {
  const stopping = await TestControlPlane.start(platform.database);
  const hold = Promise.withResolvers<void>();
  platform.agent.faultAfter("createSandbox", () => hold.promise);
  const creating = stopping.handle(
    new Request("http://localhost/v1/capsules", {
      method: "POST",
      headers: { "x-api-key": platform.team.apiKey },
      body: "{}",
    }),
  );
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });

  await stopping[Symbol.asyncDispose]();
  const answer = await toAnswer(await creating);
  await waitFor("a pass that settles it", pass, { holds: ({ settled }) => settled === 1 });
  hold.resolve();

  expect([answer.status, answer.body.error.code]).toEqual([503, "service_unavailable"]);
  expect(await platform.states()).toEqual({ running: 1 });
}, 20_000);

test("a lost session costs the number, and the next operations get another", async () => {
  await using operations = await Operations.open(platform.database.url);
  const before = operations.next().slice(0, 8);
  await platform.database.db.execute(sql`
    select pg_terminate_backend(pid) from pg_locks
    where locktype = 'advisory' and objid::bigint = ${Number.parseInt(before, 16)}`);

  await waitFor("another time in ids", () => operations.next().slice(0, 8), {
    holds: (time) => time !== before,
  });

  const [held] = await platform.database.db.execute<{ held: boolean }>(sql`
    select count(*) = 1 as held from pg_locks
    where locktype = 'advisory'
      and objid::bigint = ${Number.parseInt(operations.next().slice(0, 8), 16)}`);
  expect(held?.held).toBe(true);
});
