// The agent is killed at every journalled step of a create and a destroy, and what it leaves is counted
// after its restart: a whole capsule, or nothing.

import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { codeOf, untilNone } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";
import { FAILPOINTS } from "../failpoints.ts";

const isSoak = Boolean(process.env.WRENN_SOAK);
const CREATE_POINTS = FAILPOINTS.filter((point) => point.startsWith("create."));
const DESTROY_POINTS = FAILPOINTS.filter((point) => point.startsWith("destroy."));

// Emulated microVMs take seconds to boot, tens of them on a busy machine.
setDefaultTimeout(240_000);

let agent: AgentProcess;

beforeAll(async () => {
  agent = await AgentProcess.start();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

beforeEach(async () => {
  expect(await agent.leftovers()).toEqual(NOTHING);
});

/** Restarts the agent so that it dies at the point. */
async function arm(failpoint: string): Promise<void> {
  await agent.kill("SIGTERM");
  await agent.restart({ failpoint });
}

async function destroyAll(): Promise<void> {
  for (const sandboxId of Object.keys(await agent.statuses())) {
    await agent.client.destroySandbox({ sandboxId });
  }
}

describe("killed during a create", () => {
  test.each(CREATE_POINTS)(
    "at %s: whole or gone, and the same request is not run twice",
    async (point) => {
      await arm(`${point}:kill`);
      const request = agent.createRequest();
      const creating = codeOf(agent.client.createSandbox(request));
      await agent.exited();
      await creating;
      await agent.restart();

      const isWhole = point === "create.after-running";
      const statuses = isWhole ? { [request.sandboxId]: "running" } : {};
      expect(await codeOf(agent.client.createSandbox(request))).toBe(isWhole ? "none" : "Aborted");
      expect(await agent.statuses()).toEqual(statuses);
      if (isWhole) expect(await agent.sh(request.sandboxId, "echo whole")).toBe("whole\n");
      await destroyAll();
      expect(await agent.leftovers()).toEqual(NOTHING);
    },
  );
});

describe("failed during a create", () => {
  // One point after each kind of thing that has to be taken back.
  const points = CREATE_POINTS.filter((point) => !/after-(claim|running|guest)$/.test(point));
  test.each(points)("at %s: everything is undone at once", async (point) => {
    await arm(`${point}:fail`);

    expect(await codeOf(agent.client.createSandbox(agent.createRequest()))).toBe("Internal");

    expect(await agent.statuses()).toEqual({});
    expect(await agent.leftovers()).toEqual(NOTHING);
  });
});

describe("killed during a destroy", () => {
  test.each(DESTROY_POINTS)("at %s: it goes on after the restart", async (point) => {
    await arm(`${point}:kill`);
    const request = agent.createRequest();
    const creating = codeOf(agent.client.createSandbox(request));
    // The VMM runs from here on; a booted guest makes no difference to what there is to remove.
    if (isSoak) await creating;
    else
      await waitFor("keeper and VMM", async () => (await agent.leftovers()).processes, {
        holds: (all) => all.length > 1,
        timeoutMs: GUEST_MS,
      });

    const destroying = codeOf(agent.client.destroySandbox(request));
    await agent.exited();
    await Promise.all([creating, destroying]);
    await agent.restart();

    await untilNone(agent);
    expect(await agent.leftovers()).toEqual(NOTHING);
    expect(await codeOf(agent.client.createSandbox(request))).toBe("Aborted");
  });
});

test("killed with creates running, booting and queued: the first run on, the others are gone", async () => {
  await arm("");
  const requests = Array.from({ length: isSoak ? 12 : 4 }, () => agent.createRequest());
  const creating = Promise.all(requests.map((r) => codeOf(agent.client.createSandbox(r))));
  await waitFor("a capsule that runs", () => agent.statuses(), {
    holds: (all) => Object.values(all).includes("running"),
    timeoutMs: GUEST_MS,
  });
  const running = Object.entries(await agent.statuses()).filter(([, s]) => s === "running");

  await agent.kill();
  await creating;
  await agent.restart();

  await waitFor("the end of the start", () => agent.statuses(), {
    holds: (all) => !Object.values(all).includes("starting"),
    timeoutMs: GUEST_MS,
  });
  const statuses = await agent.statuses();
  expect(statuses).toMatchObject(Object.fromEntries(running));
  expect(new Set(Object.values(statuses))).toEqual(new Set(["running"]));
  for (const [id] of running) expect(await agent.sh(id, "echo on")).toBe("on\n");
  await destroyAll();
  expect(await agent.leftovers()).toEqual(NOTHING);
});
