// The agent is killed at every step of a pause, of its sealing, of a resume and of a destroy of a paused
// capsule: at some of them each time, at all of them by `make soak`. One capsule goes through it all and
// must always be there again, the same boot with the same program in its memory, and at the end there must
// be nothing else.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  arm,
  codeOf,
  resume,
  untilDurable,
  untilNone,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { FAILPOINTS } from "../failpoints.ts";

const isSoak = Boolean(process.env.WRENN_SOAK);
/** One for each kind of thing that is there or not at that step. */
const SOME = {
  pause: ["freeze", "state", "paused"],
  seal: ["memory", "layers", "sync", "rename", "durable", "cgroup"],
  resume: ["mark", "network", "disk", "boot", "guest", "running"],
} as const;

function pointsOf(verb: keyof typeof SOME): readonly string[] {
  const points = FAILPOINTS.filter((point) => point.startsWith(`${verb}.`));
  const some = SOME[verb].map((step) => `${verb}.after-${step}`);
  return isSoak ? points : points.filter((point) => some.includes(point));
}

/** At once what runs and what is kept of it: a page of it that was lost would show. */
const STATE = "cat /proc/sys/kernel/random/boot_id /dev/shm/nonce";

setDefaultTimeout(240_000);

let agent: AgentProcess;
let id: string;
let state: string;

beforeAll(async () => {
  agent = await AgentProcess.start();
  id = await agent.create();
  await agent.sh(id, "head -c 16 /dev/urandom | base64 > /dev/shm/nonce");
  state = await agent.sh(id, STATE);
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

/** Dies while the call is under way. */
async function killedDuring(call: () => Promise<unknown>): Promise<void> {
  const code = codeOf(call());
  await agent.exited();
  await code;
  await agent.restart();
}

describe("killed during a pause", () => {
  test.each(pointsOf("pause"))("at %s: it runs on, or is paused", async (point) => {
    await arm(agent, `${point}:kill`);

    await killedDuring(() => agent.client.pauseSandbox(agent.operation(id)));

    if (point === "pause.after-paused") {
      expect(await agent.statuses()).toEqual({ [id]: "paused" });
      expect(await resume(agent, id)).toBe("memory");
    } else await untilStatus(agent, id, "running");
    expect(await agent.sh(id, STATE)).toBe(state);
  });
});

// The control plane asks again as soon as an agent listens, while that one still undoes the first pause.
test("a pause that was cut off by a kill and is asked for again is a pause", async () => {
  await arm(agent, "pause.after-freeze:kill");
  const operation = agent.operation(id);
  await killedDuring(() => agent.client.pauseSandbox(operation));

  await agent.client.pauseSandbox(operation);

  expect(await agent.statuses()).toEqual({ [id]: "paused" });
  expect(await resume(agent, id)).toBe("memory");
  expect(await agent.sh(id, STATE)).toBe(state);
});

describe("failed during a pause", () => {
  const points = pointsOf("pause").filter((point) => point !== "pause.after-paused");
  test.each(points)("at %s: it runs on", async (point) => {
    await arm(agent, `${point}:fail`);

    expect(await codeOf(agent.client.pauseSandbox(agent.operation(id)))).toBe("Internal");

    expect(await agent.statuses()).toEqual({ [id]: "running" });
    expect(await agent.sh(id, STATE)).toBe(state);
  });
});

describe("killed while a pause is made durable", () => {
  test.each(pointsOf("seal"))("at %s: it is paused, and durable in the end", async (point) => {
    await arm(agent, `${point}:kill`);

    await killedDuring(() => agent.client.pauseSandbox(agent.operation(id)));

    expect(await agent.statuses()).toEqual({ [id]: "paused" });
    await untilDurable(agent, id);
    expect(await resume(agent, id)).toBe("memory");
    expect(await agent.sh(id, STATE)).toBe(state);
  });
});

describe("killed during a resume", () => {
  test.each(pointsOf("resume"))("at %s: it runs, or can be resumed again", async (point) => {
    await arm(agent, `${point}:kill`);
    await agent.client.pauseSandbox(agent.operation(id));
    await untilDurable(agent, id);

    await killedDuring(() => resume(agent, id));

    const isWhole = /after-(move|running)$/.test(point);
    expect(await agent.statuses()).toEqual({ [id]: isWhole ? "running" : "paused" });
    expect(await resume(agent, id)).toBe("memory");
    expect(await agent.sh(id, STATE)).toBe(state);
  });
});

describe("failed during a resume", () => {
  const late = isSoak ? /(move|running)$/ : /(move|running|guest|mark)$/;
  const points = pointsOf("resume").filter((point) => !late.test(point));
  test.each(points)("at %s: it is paused as before", async (point) => {
    await arm(agent, `${point}:fail`);
    await agent.client.pauseSandbox(agent.operation(id));
    await untilDurable(agent, id);

    expect(await codeOf(resume(agent, id))).toBe("Internal");

    expect(await agent.statuses()).toEqual({ [id]: "paused" });
    const { processes, netns, cgroups, claims } = await agent.leftovers();
    expect([processes, netns, cgroups, claims]).toEqual([[], [], [], []]);
    await arm(agent);
    expect(await resume(agent, id)).toBe("memory");
    expect(await agent.sh(id, STATE)).toBe(state);
  });
});

test("killed after its disk and memory were removed, a destroy goes on", async () => {
  await agent.client.pauseSandbox(agent.operation(id));
  await arm(agent, "destroy.after-memory:kill");

  await killedDuring(() => agent.client.destroySandbox({ sandboxId: id }));

  await untilNone(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
