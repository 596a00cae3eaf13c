// Control planes that are killed: real processes of the real program, SIGKILL, and another one.

import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import { encodeId } from "../../proto/ids.ts";
import { withRandom } from "../../tests/harness/random.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, events } from "../db/tables.ts";

setDefaultTimeout(60_000);
/** A restarted control plane must have ended what its predecessor began. */
const RECOVERY_MS_MAX = 5000;
const ROUNDS = 6;

let platform: TestPlatform;
let program: ControlPlaneProgram;

beforeAll(async () => {
  platform = await TestPlatform.start();
  program = await ControlPlaneProgram.start(platform);
});

afterAll(async () => {
  await program.end("SIGTERM");
  await platform[Symbol.asyncDispose]();
});

afterEach(async () => {
  platform.agent.bootMs = 0;
  await platform.database.db.delete(capsules);
  platform.agent.capsules.clear();
});

async function killAndRestart(): Promise<number> {
  await program.end("SIGKILL");
  program = await ControlPlaneProgram.start(platform);
  return Date.now();
}

async function only() {
  const rows = await platform.database.db.select().from(capsules);
  return rows[0];
}

test("a create whose control plane is killed ends as its host does, and its key answers", async () => {
  platform.agent.bootMs = 400;
  const creating = program.call("POST", "/v1/capsules", { key: "crash" });
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });

  const restartedAt = await killAndRestart();
  const answer = await program.call("POST", "/v1/capsules", { key: "crash" });

  expect(await creating).toBeNull();
  expect(answer).toMatchObject({ status: 201, body: { status: "running" } });
  expect(Date.now() - restartedAt).toBeLessThan(RECOVERY_MS_MAX);
  expect([...platform.agent.capsules.keys()]).toEqual([answer?.body.id ?? ""]);
});

test("a create that had not reached its host fails, and its key says so", async () => {
  const held = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", async () => {
    await held.promise;
    throw new Error("the request was lost");
  });
  const creating = program.call("POST", "/v1/capsules", { key: "lost" });
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);

  const restartedAt = await killAndRestart();
  await waitFor("the row to be in error", async () => (await only())?.status, {
    holds: (status) => status === "error",
  });
  const answer = await program.call("POST", "/v1/capsules", { key: "lost" });
  held.resolve();

  expect(await creating).toBeNull();
  expect(Date.now() - restartedAt).toBeLessThan(RECOVERY_MS_MAX);
  expect([answer?.status, answer?.body.error.code]).toEqual([502, "agent_error"]);
  expect(platform.agent.capsules.size).toBe(0);
});

test("a destroy whose control plane is killed is finished by the next", async () => {
  const created = await program.call("POST", "/v1/capsules");
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("destroySandbox", () => hold.promise);
  const destroying = program.call("DELETE", `/v1/capsules/${created?.body.id}`);
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);

  const restartedAt = await killAndRestart();
  await waitFor("the row to be stopped", async () => (await only())?.status, {
    holds: (status) => status === "stopped",
  });
  hold.resolve();

  expect(await destroying).toBeNull();
  expect(Date.now() - restartedAt).toBeLessThan(RECOVERY_MS_MAX);
  expect(platform.agent.capsules.size).toBe(0);
});

test("whenever it is killed, record and host agree afterwards", () =>
  withRandom(async (random) => {
    platform.agent.bootMs = 30;
    const created = new Set<string>();
    for (let round = 0; round < ROUNDS; round++) {
      const work = Array.from({ length: 8 }, async () => {
        const answer = await program.call("POST", "/v1/capsules");
        if (answer?.status === 201) created.add(answer.body.id);
        if (random.oneIn(2) && answer?.status === 201) {
          await program.call("DELETE", `/v1/capsules/${answer.body.id}`);
        }
      });
      await Bun.sleep(random.below(250));
      await killAndRestart();
      await Promise.all(work);
    }

    await waitFor("every capsule to settle", () => platform.states(), {
      holds: ({ pending = 0, starting = 0, stopping = 0 }) => pending + starting + stopping === 0,
    });
    await waitFor(
      "record and host to agree",
      async () => {
        const rows = await platform.database.db.select().from(capsules);
        const running = rows.filter(({ status }) => status === "running");
        const onRecord = running.map(({ id }) => encodeId("capsule", id)).toSorted();
        return [onRecord, [...platform.agent.capsules.keys()].toSorted()];
      },
      { holds: ([onRecord, onHost]) => Bun.deepEquals(onRecord, onHost) },
    );
    const known = new Set((await platform.database.db.select().from(capsules)).map(({ id }) => id));
    expect(
      [...created].filter((id) => ![...known].some((row) => encodeId("capsule", row) === id)),
    ).toEqual([]);
  }));

test("every row's events lead to the state it is in, whatever was killed", async () => {
  platform.agent.bootMs = 30;
  const work = Array.from({ length: 6 }, () => program.call("POST", "/v1/capsules"));
  await Bun.sleep(60);
  await killAndRestart();
  await Promise.all(work);
  await waitFor("every capsule to settle", () => platform.states(), {
    holds: ({ pending = 0, starting = 0 }) => pending + starting === 0,
  });

  const all = await platform.database.db.select().from(events).orderBy(events.id);
  for (const { id, status } of await platform.database.db.select().from(capsules)) {
    const own = all.filter(({ resource }) => resource.id === encodeId("capsule", id));
    const steps = own.map(({ metadata }) => metadata);
    expect(steps.at(-1)?.to).toBe(status);
    expect(steps.slice(1).map(({ from }) => from)).toEqual(steps.slice(0, -1).map(({ to }) => to));
  }
});

test("a database that drops all connections in the middle of a create loses nothing", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultAfter("createSandbox", () => hold.promise);
  const creating = program.call("POST", "/v1/capsules", { key: "drop" });
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });

  await platform.database.db.execute(sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`);
  hold.resolve();
  const refusals: unknown[] = [];
  const answer = await waitFor(
    "an answer",
    async () => {
      const asked = await program.call("POST", "/v1/capsules", { key: "drop" });
      if (asked?.status !== 201) refusals.push(asked);
      return asked;
    },
    { holds: (asked) => asked?.status === 201 },
  );
  refusals.push(...[await creating].filter((first) => first?.status !== 201));

  // Connections end when their servers get to it: a query may still meet one that is on its way out.
  const outage = { status: 503, body: { error: { retryable: true } } };
  expect(refusals).toMatchObject(refusals.map(() => outage));
  const [row] = await platform.database.db
    .select()
    .from(capsules)
    .where(eq(capsules.status, "running"));
  expect(row === undefined ? null : encodeId("capsule", row.id)).toBe(answer?.body.id ?? "");
});
