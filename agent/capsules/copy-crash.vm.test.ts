// The agent is killed at every step of making a template or forks of a running capsule. The capsule must
// run on as it was, what was half made must be gone, and what was made must be whole.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { encodeId, newId } from "../../proto/ids.ts";
import {
  arm,
  codeOf,
  destroyAll,
  pauseDurably,
  resume,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import {
  AgentProcess,
  type Leftovers,
  NOTHING,
  PLATFORM_TEAM,
} from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";
import { FAILPOINTS } from "../failpoints.ts";

const pointsOf = (...verbs: string[]) =>
  FAILPOINTS.filter((point) => verbs.some((verb) => point.startsWith(`${verb}.`)));
/** The template has its name from here on. */
const MADE: readonly string[] = ["publish.after-rename", "snapshot.after-publish"];
/** Of a create under way for a fork; all of them are walked with creates of other kinds. */
const CHILD_POINTS = process.env.WRENN_SOAK
  ? pointsOf("create")
  : (["create.after-claim", "create.after-disk", "create.after-vmm"] as const);
const STATE = "cat /proc/sys/kernel/random/boot_id /dev/shm/nonce";

setDefaultTimeout(240_000);

let agent: AgentProcess;
let id: string;
let state: string;
let alone: Leftovers;

beforeAll(async () => {
  agent = await AgentProcess.start();
  id = await agent.create();
  await agent.sh(id, "head -c 16 /dev/urandom | base64 > /dev/shm/nonce");
  state = await agent.sh(id, STATE);
  // The directory of its generations stays.
  const snapshot = newSnapshot();
  await agent.client.createSnapshot(snapshot);
  await deleteSnapshot(snapshot);
  alone = await agent.leftovers();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

async function killedDuring(point: string, call: () => Promise<unknown>): Promise<void> {
  await arm(agent, `${point}:kill`);
  const code = codeOf(call());
  await agent.exited();
  await code;
  await agent.restart();
}

/** The source runs, and nothing is there but what it has. */
async function expectAlone(): Promise<void> {
  await untilStatus(agent, id, "running");
  expect(await agent.sh(id, STATE)).toBe(state);
  // Its snapshot that was cut off is being undone until then.
  await waitFor("the source to run on", async () => (await agent.leftovers()).rows, {
    holds: (rows) => rows.includes(`${id} running`),
    timeoutMs: GUEST_MS,
  });
  expect(await agent.leftovers()).toEqual(alone);
}

function newSnapshot() {
  const templateId = crypto.randomUUID();
  return { ...agent.operation(id), teamId: PLATFORM_TEAM, templateId };
}

async function deleteSnapshot({ teamId, templateId }: ReturnType<typeof newSnapshot>) {
  await agent.client.deleteSnapshot({ teamId, templateId });
}

describe("killed while a snapshot is made", () => {
  const points = pointsOf("capture", "snapshot", "publish");
  test.each(points)("at %s: there is a whole one or none", async (point) => {
    const snapshot = newSnapshot();

    await killedDuring(point, () => agent.client.createSnapshot(snapshot));

    if (!MADE.includes(point)) await expectAlone();
    expect(await codeOf(agent.client.createSnapshot(snapshot))).toBe("none");
    expect(await codeOf(agent.client.createSnapshot({ ...snapshot, ...agent.operation(id) }))).toBe(
      "AlreadyExists",
    );
    if (point === "snapshot.after-publish") {
      const { templateId } = snapshot;
      const child = await agent.client.createSandbox({ ...agent.createRequest(), templateId });
      expect(await agent.sh(child.sandboxId, STATE)).toBe(state);
      await agent.client.destroySandbox({ sandboxId: child.sandboxId });
    }
    await deleteSnapshot(snapshot);
    await expectAlone();
  });
});

describe("killed during a fork", () => {
  test.each([...pointsOf("fork"), ...CHILD_POINTS])(
    "at %s: the children are whole or gone",
    async (point) => {
      const children = Array.from({ length: 2 }, (_, i) => ({
        sandboxId: encodeId("capsule", newId("capsule")),
        operationId: crypto.randomUUID(),
        envdAccessToken: `${i}`.repeat(64),
      }));

      await killedDuring(point, () =>
        agent.client.forkSandbox({ sandboxId: id, children, timeoutSec: 0 }),
      );

      await waitFor("the end of the start", () => agent.statuses(), {
        holds: (all) => !Object.values(all).includes("starting"),
        timeoutMs: GUEST_MS,
      });
      const others = Object.entries(await agent.statuses()).filter(([other]) => other !== id);
      if (point === "fork.after-children") expect(others).toHaveLength(2);
      for (const [sandboxId, status] of others) {
        expect(status).toBe("running");
        expect(await agent.sh(sandboxId, STATE)).toBe(state);
        await agent.client.destroySandbox({ sandboxId });
      }
      await expectAlone();
    },
  );
});

test("a snapshot that is deleted while it is made is not there", async () => {
  await arm(agent, "capture.after-seal:stop");
  const snapshot = newSnapshot();
  const making = codeOf(agent.client.createSnapshot(snapshot));
  await agent.stopped();
  const deleting = deleteSnapshot(snapshot);
  agent.goOn();

  await deleting;

  expect(await making).toBe("Aborted");
  await expectAlone();
});

test("forks start from what their source was, however often it is paused meanwhile", async () => {
  await arm(agent);
  const children = Array.from({ length: 4 }, (_, i) => ({
    sandboxId: encodeId("capsule", newId("capsule")),
    operationId: crypto.randomUUID(),
    envdAccessToken: `${i}`.repeat(64),
  }));
  const request = { sandboxId: id, children, timeoutSec: 0 };
  const forking = agent.client.forkSandbox(request);
  await waitFor("a second capsule", () => agent.statuses(), {
    holds: (all) => Object.keys(all).length > 1,
    timeoutMs: GUEST_MS,
  });
  for (let i = 0; i < 2; i += 1) {
    await pauseDurably(agent, id);
    await resume(agent, id);
  }

  const { results } = await forking;

  expect(results.map(({ errorCode, errorMessage }) => errorCode + errorMessage)).toEqual(
    children.map(() => ""),
  );
  for (const { sandboxId } of children) expect(await agent.sh(sandboxId, STATE)).toBe(state);
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
