// Control planes that are killed while they pause, resume, fork or snapshot: real processes of the
// real program, SIGKILL, and another one.

import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { ne } from "drizzle-orm";
import { encodeId } from "../../proto/ids.ts";
import { withRandom } from "../../tests/harness/random.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, events, templateOperations, templates } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";

setDefaultTimeout(60_000);
/** How long the host takes: time to be killed in. */
const TAKES_MS = 1_000;
const ROUNDS = 4;

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
  platform.agent.pauses.takesMs = 0;
  platform.agent.pauses.templates.clear();
  await platform.database.db.delete(capsules);
  await platform.database.db.delete(events);
  await platform.database.db.delete(templates).where(ne(templates.teamId, PLATFORM_TEAM));
  platform.agent.capsules.clear();
});

async function killAndRestart(): Promise<void> {
  await program.end("SIGKILL");
  program = await ControlPlaneProgram.start(platform);
}

async function untilStates(states: Record<string, number>): Promise<void> {
  await waitFor(`states ${JSON.stringify(states)}`, () => platform.states(), {
    holds: (seen) => Bun.deepEquals(seen, states),
  });
}

/** The capsule's events are one path to the state it is in. */
async function expectOnePath(): Promise<void> {
  const all = await platform.database.db.select().from(events).orderBy(events.id);
  for (const { id, status } of await platform.database.db.select().from(capsules)) {
    const own = all.filter(({ resource }) => resource.id === encodeId("capsule", id));
    const steps = own.map(({ metadata }) => metadata);
    expect(steps.at(-1)?.to).toBe(status);
    expect(steps.slice(1).map(({ from }) => from)).toEqual(steps.slice(0, -1).map(({ to }) => to));
  }
}

test("a pause whose control plane is killed ends as its host does", async () => {
  const id = (await program.call("POST", "/v1/capsules"))?.body.id;
  platform.agent.pauses.takesMs = TAKES_MS;
  const pausing = program.call("POST", `/v1/capsules/${id}/pause`);
  await waitFor("a call of pauseSandbox", () => platform.agent.calls, {
    holds: (calls) => calls.includes("pauseSandbox"),
  });

  await killAndRestart();
  await untilStates({ paused: 1 });
  const resumed = await program.call("POST", `/v1/capsules/${id}/resume`);

  expect([await pausing, resumed?.status]).toEqual([null, 200]);
  await expectOnePath();
});

test("a pause that never reached the host leaves the capsule running", async () => {
  const id = (await program.call("POST", "/v1/capsules"))?.body.id;
  const held = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  platform.agent.faultBefore("pauseSandbox", async () => {
    asked.resolve();
    await held.promise;
    throw new Error("the request was lost");
  });
  const pausing = program.call("POST", `/v1/capsules/${id}/pause`);
  // Or the fault would be the next call's.
  await asked.promise;
  expect(await platform.states()).toEqual({ pausing: 1 });

  await killAndRestart();
  await untilStates({ running: 1 });
  held.resolve();

  expect(await pausing).toBeNull();
  await expectOnePath();
});

test("a resume whose control plane is killed ends as its host does, with one VM", async () => {
  const id = (await program.call("POST", "/v1/capsules"))?.body.id;
  await program.call("POST", `/v1/capsules/${id}/pause`);
  const held = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  platform.agent.faultBefore("resumeSandbox", async () => {
    asked.resolve();
    await held.promise;
  });
  const resuming = program.call("POST", `/v1/capsules/${id}/resume`);
  await asked.promise;
  expect(await platform.states()).toEqual({ resuming: 1 });

  await program.end("SIGKILL");
  held.resolve();
  program = await ControlPlaneProgram.start(platform);
  await waitFor("the resume to settle", () => platform.states(), {
    holds: ({ resuming }) => resuming === undefined,
  });

  expect(await resuming).toBeNull();
  const [row] = await platform.database.db.select().from(capsules);
  expect(row?.status).toBe(platform.agent.capsules.get(`${id}`)?.status as "running" | "paused");
  await expectOnePath();
});

test("a snapshot whose control plane is killed is there afterwards, once", async () => {
  const id = (await program.call("POST", "/v1/capsules"))?.body.id;
  platform.agent.pauses.takesMs = TAKES_MS;
  const body = { sandbox_id: id, name: "crash" };
  const making = program.call("POST", "/v1/snapshots", { body });
  await waitFor("a call of createSnapshot", () => platform.agent.calls, {
    holds: (calls) => calls.includes("createSnapshot"),
  });

  await killAndRestart();
  await waitFor(
    "the end of the operation",
    () => platform.database.db.select().from(templateOperations),
    { holds: (all) => all.length === 0 },
  );
  const started = await program.call("POST", "/v1/capsules", { body: { template: "crash" } });

  expect([await making, started?.status]).toEqual([null, 201]);
  expect(platform.agent.pauses.templates.size).toBe(1);
});

test("whenever it is killed, record and host agree about what runs and what rests", () =>
  withRandom(async (random) => {
    platform.agent.pauses.takesMs = 30;
    const ids: string[] = [];
    for (let count = 0; count < 4; count++) {
      const created = await program.call("POST", "/v1/capsules");
      if (created !== null) ids.push(created.body.id);
    }
    for (let round = 0; round < ROUNDS; round++) {
      const work = ids.map(async (id) => {
        await program.call("POST", `/v1/capsules/${id}/pause`);
        await program.call("POST", `/v1/capsules/${id}/resume`);
        await program.call("POST", `/v1/capsules/${id}/fork`);
      });
      await Bun.sleep(random.below(250));
      await killAndRestart();
      await Promise.all(work);
    }

    await waitFor(
      "record and host to agree",
      async () => {
        const rows = await platform.database.db.select().from(capsules);
        const onRecord = rows
          .filter(({ status }) => status !== "error")
          .map(({ id, status }) => [encodeId("capsule", id), status]);
        const onHost = [...platform.agent.capsules].map(([id, { status }]) => [id, status]);
        return [onRecord.toSorted(), onHost.toSorted()];
      },
      { holds: ([onRecord, onHost]) => Bun.deepEquals(onRecord, onHost) },
    );
    const rest = ["running", "paused", "error"];
    expect(Object.keys(await platform.states()).filter((state) => !rest.includes(state))).toEqual(
      [],
    );
    await expectOnePath();
  }));
