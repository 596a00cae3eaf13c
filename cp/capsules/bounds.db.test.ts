// Every state that leads to another has a bound: whatever its control plane and its host do, a capsule is at
// rest in the end. The states come from the table of moves, so that a new one without a bound fails here.

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import { encodeId, newId } from "../../proto/ids.ts";
import { CAPSULE_ROW } from "../../tests/harness/rows.ts";
import { addHost, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { CAPSULE_STATES, type CapsuleState } from "../capsule-states.ts";
import { capsules, events, hosts, templateOperations } from "../db/tables.ts";
import { settleTemplatesLoop } from "../loops/settle-templates.ts";
import { reconcileHost } from "../monitor/reconcile.ts";
import { Operations } from "../operations/operations.ts";
import { isLegalMove, MOVES } from "./lifecycle.ts";
import { settleOperations } from "./settle.ts";

/** Nothing is on its way in them: a capsule may be so for ever, `missing` as long as its host is away. */
const AT_REST: readonly CapsuleState[] = [
  "running",
  "paused",
  "stopped",
  "hibernated",
  "missing",
  "error",
];
const TRANSIENT = CAPSULE_STATES.filter((state) => !AT_REST.includes(state));

/** Nobody listens there. */
const DEAD_ADDRESS = "127.0.0.1:1";
const LONG_AGO = sql`now() - interval '1 day'`;
const SOON_SEC = 61;

/**
 * Where a capsule ends whose control plane died, by what its host says of it: that it has it as it was
 * before, that it is at it still after a day, that it has lost it; and when the host never answers.
 */
const ENDS: Partial<Record<CapsuleState, Record<"before" | "atIt" | "lost" | "mute", string>>> = {
  pending: { before: "error", atIt: "error", lost: "error", mute: "error" },
  starting: { before: "error", atIt: "error", lost: "error", mute: "missing" },
  pausing: { before: "running", atIt: "running", lost: "stopped", mute: "missing" },
  snapshotting: { before: "running", atIt: "running", lost: "running", mute: "running" },
  resuming: { before: "paused", atIt: "paused", lost: "paused", mute: "paused" },
  // It is promised to its owner, and kept when the host answers: see below.
  stopping: { before: "stopped", atIt: "stopped", lost: "stopped", mute: "stopping" },
};
const BEFORE = { pending: null, starting: null, pausing: "running", resuming: "paused" } as const;

let platform: TestPlatform;
let muteHostId: Awaited<ReturnType<typeof addHost>>;

beforeAll(async () => {
  platform = await TestPlatform.start();
  muteHostId = await addHost(platform.database, DEAD_ADDRESS);
});

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
});

afterEach(async () => {
  await platform.database.db.delete(capsules);
  await platform.database.db.delete(templateOperations);
  await platform.database.db.delete(events);
  platform.agent.capsules.clear();
});

/** A capsule as it is left in that state, whose deadline is an hour away unless it is `late`. */
async function left(
  status: CapsuleState,
  { operationId, hostId = platform.hostId, isLate = false }: LeftOptions,
) {
  const id = newId("capsule");
  const { db } = platform.database;
  const deadline = isLate ? sql`now()` : sql`now() + interval '1 hour'`;
  const snapshottedFrom = status === "snapshotting" ? ("running" as const) : null;
  const { id: teamId } = platform.team;
  const changed = { lastUpdated: LONG_AGO, createdAt: LONG_AGO };
  const row = { ...CAPSULE_ROW, ...changed, id, teamId, hostId, status, operationId };
  await db.insert(capsules).values({ ...row, snapshottedFrom, stateDeadline: deadline });
  if (status === "snapshotting") {
    const actor = { type: "system", id: "", name: "" } as const;
    const template = { templateId: crypto.randomUUID(), kind: "create", name: "ours" } as const;
    const operation = { ...template, hostId, teamId, operationId, deadline, actor };
    await db
      .insert(templateOperations)
      .values({ ...operation, capsuleId: id, createdAt: LONG_AGO });
  }
  return id;
}

interface LeftOptions {
  readonly operationId: string;
  readonly hostId?: typeof muteHostId;
  readonly isLate?: boolean;
}

async function deadOperation(): Promise<string> {
  await using dead = await Operations.open(platform.database.url);
  return dead.next();
}

async function onHost(id: Awaited<ReturnType<typeof left>>, operationId: string, status: string) {
  const sandboxId = encodeId("capsule", id);
  const agent = platform.controlPlane.deps.agents.at(platform.agent.place);
  await agent.createSandbox({ sandboxId, operationId, vcpus: 1, memoryMb: 512 });
  const capsule = platform.agent.capsules.get(sandboxId);
  if (capsule !== undefined) capsule.status = status as typeof capsule.status;
}

async function pass(): Promise<number> {
  const { deps } = platform.controlPlane;
  const templates = await settleTemplatesLoop(deps).run(new AbortController().signal);
  const { claimed } = await settleOperations(deps);
  return claimed + (templates.claimed ?? 0);
}

async function rowOf(id: Awaited<ReturnType<typeof left>>) {
  const rows = await platform.database.db.select().from(capsules).where(eq(capsules.id, id));
  return rows[0];
}

test("the states that lead to others are those with a bound, and each leads to rest", () => {
  expect(Object.keys(ENDS).toSorted()).toEqual([...TRANSIENT].toSorted());
  for (const state of TRANSIENT) {
    expect(MOVES[state].some((to) => AT_REST.includes(to))).toBe(true);
  }
});

test.each(TRANSIENT)(
  "`%s` is taken over when its control plane is dead, and when it is late",
  async (state) => {
    await using living = await Operations.open(platform.database.url);
    await left(state, { operationId: living.next() });
    const early = await pass();
    await platform.database.db.delete(capsules);
    await platform.database.db.delete(templateOperations);

    await left(state, { operationId: living.next(), isLate: true });
    const late = await pass();
    await platform.database.db.delete(capsules);
    await platform.database.db.delete(templateOperations);
    await left(state, { operationId: await deadOperation() });
    const abandoned = await pass();

    expect([early, late > 0, abandoned > 0]).toEqual([0, true, true]);
  },
);

test.each(TRANSIENT)(
  "`%s` ends whatever the host says, and when it says nothing",
  async (state) => {
    const ended: Record<string, string | undefined> = {};
    for (const said of ["before", "atIt", "lost", "mute"] as const) {
      const operationId = await deadOperation();
      const hostId = said === "mute" ? muteHostId : platform.hostId;
      const id = await left(state, { operationId, hostId });
      const before = state in BEFORE ? BEFORE[state as keyof typeof BEFORE] : "running";
      if (said === "before" && before !== null) await onHost(id, operationId, before);
      if (said === "atIt" && state !== "pending") {
        await onHost(id, operationId, state === "snapshotting" ? "running" : state);
      }

      await pass();
      ended[said] = (await rowOf(id))?.status;
      if (ended[said] !== state) {
        expect(isLegalMove(state, ended[said] as CapsuleState)).toBe(true);
        expect((await rowOf(id))?.stateDeadline).toBeNull();
      }
      await platform.database.db.delete(capsules);
      platform.agent.capsules.clear();
    }

    expect<unknown>(ended).toEqual(ENDS[state]);
  },
);

test("a destroy is tried again every minute, until the host answers or is deleted", async () => {
  const operationId = await deadOperation();
  const [answers, isDeleted] = [
    await addHost(platform.database, DEAD_ADDRESS),
    await addHost(platform.database, DEAD_ADDRESS),
  ];
  const ids = await Promise.all(
    [answers, isDeleted].map((hostId) => left("stopping", { operationId, hostId })),
  );
  const { db } = platform.database;

  await pass();
  const waits = await db.execute<{ sec: number }>(
    sql`select extract(epoch from state_deadline - now())::float8 as sec from capsules`,
  );
  await db.update(hosts).set({ address: platform.agent.address }).where(eq(hosts.id, answers));
  await db.delete(hosts).where(eq(hosts.id, isDeleted));
  await db.update(capsules).set({ stateDeadline: sql`now()` });
  await waitFor("both to be stopped", async () => {
    await pass();
    return (await Promise.all(ids.map(rowOf))).every((row) => row?.status === "stopped");
  });

  expect(waits.map(({ sec }) => sec > 0 && sec < SOON_SEC)).toEqual([true, true]);
});

// The host tells that it lives, and nobody can ask it: cp comes to it through something that is broken.
test("what nobody could say of a capsule is taken over when its host can be asked again", async () => {
  const operationId = await deadOperation();
  const id = await left("pausing", { operationId, hostId: muteHostId });
  await pass();
  const before = (await rowOf(id))?.status;
  await onHost(id, operationId, "paused");
  await platform.database.db
    .update(capsules)
    .set({ hostId: platform.hostId })
    .where(eq(capsules.id, id));

  const host = { ...platform.agent.place, id: platform.hostId };
  await reconcileHost(platform.controlPlane.deps, host, "quarantine");

  expect([before, (await rowOf(id))?.status]).toEqual(["missing", "paused"]);
});
