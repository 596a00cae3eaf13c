// A VMM, or the pager that brings its memory, is killed while the agent stands at a step of a pause, its
// sealing, a resume, a snapshot or a create. Nothing may hang, nobody may be told that it went well when
// it did not, and the capsule must come back: with all of it if its memory was durable, else with its disk.

import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import {
  arm,
  codeOf,
  destroyAll,
  infoOf,
  pauseDurably,
  resume,
  untilDurable,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";
import { FAILPOINTS, type Failpoint } from "../failpoints.ts";
import { GUEST_CALL_TIMEOUT_MS } from "../limits.ts";

const VICTIMS = ["pid", "pagerPid"] as const;
type Victim = (typeof VICTIMS)[number];
const isSoak = Boolean(process.env.WRENN_SOAK);
const STATE = "cat /proc/sys/kernel/random/boot_id /dev/shm/nonce";
/** From the loss to the answer: a guest that is gone is not waited for, as one that says nothing is. */
const ANSWER_MS_MAX = GUEST_CALL_TIMEOUT_MS / 2;
/** Neither has a VMM yet, or any more. */
const NO_VMM = /\.after-(claim|acquire|network|cgroup|disk|vmm|running)$/;

function pointsOf(verb: string, some: readonly Failpoint[]): readonly Failpoint[] {
  if (!isSoak) return some;
  return FAILPOINTS.filter((point) => point.startsWith(`${verb}.`) && !NO_VMM.test(point));
}

const PAUSE_POINTS: readonly (readonly [Failpoint, Victim])[] = isSoak
  ? [...pointsOf("pause", []), ...pointsOf("seal", [])].flatMap((point) =>
      VICTIMS.map((victim) => [point, victim] as const),
    )
  : [
      ["pause.after-mark", "pid"],
      ["pause.after-state", "pagerPid"],
      ["pause.after-stop", "pid"],
      ["pause.after-paused", "pagerPid"],
      ["seal.after-memory", "pid"],
      ["seal.after-rename", "pagerPid"],
      ["seal.after-durable", "pid"],
    ];
const RESUME_POINTS: readonly (readonly [Failpoint, Victim])[] = [
  ["resume.after-boot", "pid"],
  ["resume.after-vmm", "pagerPid"],
  ["resume.after-guest", "pid"],
];
const CAPTURE_POINTS = pointsOf("capture", ["capture.after-stop", "capture.after-seal"]);

setDefaultTimeout(240_000);

let agent: AgentProcess;
let id: string;
/** Since its last boot. */
let state: string;
/** What its disk was told last. */
let word = 0;

beforeAll(async () => {
  agent = await AgentProcess.start();
  id = await agent.create();
  await learnState();
  await pauseDurably(agent, id);
  await resume(agent, id);
});

// A test that failed half-way must not fail all that come after it.
beforeEach(async () => {
  if ((await agent.statuses())[id] !== "running") {
    await arm(agent);
    await resume(agent, id);
    await learnState();
  }
  if ((await agent.pids(id)).pagerPid === undefined) {
    await pauseDurably(agent, id);
    await resume(agent, id);
  }
  word += 1;
  await agent.sh(id, `echo ${word} > /root/word; sync`);
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

/** Whether the kernel has anything of the process but its exit status. */
async function isThere(pid: number): Promise<boolean> {
  const stat = await Bun.file(`/proc/${pid}/stat`)
    .text()
    .catch(() => ") Z");
  return !/\) [ZX]/.test(stat);
}

async function untilGone(pid: number): Promise<void> {
  const holds = (isAlive: boolean) => !isAlive;
  await waitFor("the end of the VMM", () => isThere(pid), { holds, timeoutMs: GUEST_MS });
}

/** Kills it at the point, while the call is under way; answers the call's code. */
async function lostAt(
  point: Failpoint,
  { victim, of = id }: { victim: Victim; of?: string },
  call: () => Promise<unknown>,
): Promise<string> {
  const code = codeOf(call());
  await agent.stopped();
  const pids = await agent.pids(of);
  const pid = pids[victim];
  if (pid === undefined) throw new Error(`${of} has no ${victim} at ${point}`);
  process.kill(pid, "SIGKILL");
  await untilGone(pids.pid);
  const lostAt = performance.now();
  agent.goOn();
  const known = await code;
  expect(performance.now() - lostAt).toBeLessThan(ANSWER_MS_MAX);
  return known;
}

async function learnState(): Promise<void> {
  await agent.sh(id, "head -c 16 /dev/urandom | base64 > /dev/shm/nonce");
  state = await agent.sh(id, STATE);
}

/** The capsule is back with what its disk was told last, and nothing but it is there. */
async function expectBack(): Promise<void> {
  const from = await resume(agent, id);
  expect(["memory", "disk"]).toContain(from);
  if (from === "disk") await learnState();
  expect(await agent.sh(id, STATE)).toBe(state);
  expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
  const { rows, netns, links, cgroups, claims, files } = await agent.leftovers();
  expect(rows).toEqual([`${id} running`]);
  expect([netns.length, links.length, claims.length]).toEqual([1, 1, 1]);
  expect(new Set(cgroups)).toEqual(new Set([id]));
  expect(files.filter((name) => !name.includes(id))).toEqual([]);
}

/** Nothing is under way any more. */
async function untilAtRest(): Promise<string> {
  await waitFor("the capsule to rest", () => infoOf(agent, id), {
    holds: (info) => {
      const isSettled = info?.reason !== "" || info.durableAtUnix > 0n;
      return info?.status === "error" || (info?.status === "paused" && isSettled && !info.hostIp);
    },
    timeoutMs: GUEST_MS,
  });
  return (await infoOf(agent, id))?.status ?? "";
}

describe("lost during a pause", () => {
  test.each(PAUSE_POINTS)("at %s: the %s; it comes back from what was durable", async (...row) => {
    const [point, victim] = row;
    await arm(agent, `${point}:stop`);

    const code = await lostAt(point, { victim }, () =>
      agent.client.pauseSandbox(agent.operation(id)),
    );

    // Its caller knows that it is not paused, or it is.
    expect(["none", "FailedPrecondition"]).toContain(code);
    expect(await untilAtRest()).toBe(code === "none" ? "paused" : "error");
    await expectBack();
  });
});

describe("lost during a resume", () => {
  test.each(RESUME_POINTS)("at %s: the %s; it can be resumed again", async (...row) => {
    const [point, victim] = row;
    await pauseDurably(agent, id);
    await arm(agent, `${point}:stop`);

    const code = await lostAt(point, { victim }, () => resume(agent, id));

    // A VMM that ends just after the guest had answered ends a running capsule.
    if (code !== "none") expect(await agent.statuses()).toEqual({ [id]: "paused" });
    await untilAtRest();
    await expectBack();
  });
});

// What it held was nowhere else: nobody need ask twice for what is left.
describe("lost with the memory of a pause that was not yet durable", () => {
  test("just before a resume: that boots the disk", async () => {
    await arm(agent, "pause.after-paused:stop");
    const pausing = codeOf(agent.client.pauseSandbox(agent.operation(id)));
    await agent.stopped();
    const { pid } = await agent.pids(id);

    const resuming = resume(agent, id);
    process.kill(pid, "SIGKILL");
    await untilGone(pid);
    agent.goOn();

    expect(await Promise.all([pausing, resuming])).toEqual(["none", "disk"]);
    await learnState();
    expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
  });

  test.each(["pid", "keeperPid"] as const)(
    "the %s, once its guest ran on: the resume boots the disk",
    async (victim) => {
      await arm(agent, "live-resume.after-continue:stop");
      await agent.client.pauseSandbox(agent.operation(id));
      const resuming = resume(agent, id);
      await agent.stopped();
      const pids = await agent.pids(id);

      process.kill(pids[victim], "SIGKILL");
      await untilGone(pids.pid);
      agent.goOn();

      expect(await resuming).toBe("disk");
      await learnState();
      expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
    },
  );
});

describe("lost during a snapshot", () => {
  test.each(CAPTURE_POINTS)("at %s: there is none, and the capsule comes back", async (point) => {
    await arm(agent, `${point}:stop`);
    const snapshot = {
      ...agent.operation(id),
      teamId: PLATFORM_TEAM,
      templateId: crypto.randomUUID(),
    };

    const code = await lostAt(point, { victim: "pid" }, () =>
      agent.client.createSnapshot(snapshot),
    );

    if (code === "none") await agent.client.deleteSnapshot(snapshot);
    else expect(code).toBe("FailedPrecondition");
    expect(await untilAtRest()).toBe("error");
    await expectBack();
  });
});

describe("lost while it runs", () => {
  test.each(VICTIMS)("its %s: work is refused, and a resume brings it back", async (victim) => {
    const pid = (await agent.pids(id))[victim];
    if (pid === undefined) throw new Error(`it has no ${victim}`);
    process.kill(pid, "SIGKILL");

    expect(await untilAtRest()).toBe("error");

    expect(await codeOf(agent.sh(id, "true"))).toBe("FailedPrecondition");
    await expectBack();
  });

  test.each(VICTIMS)("its %s, while no agent runs: the next one brings it back", async (victim) => {
    const pids = await agent.pids(id);
    await agent.kill();
    process.kill(pids[victim] ?? 0, "SIGKILL");
    await untilGone(pids.pid);
    await agent.restart();

    expect(await untilAtRest()).toBe("error");
    await expectBack();
  });
});

test("lost during a create: nothing is left of it", async () => {
  await pauseDurably(agent, id);
  await arm(agent, "create.after-boot:stop");
  const request = agent.createRequest();

  const code = await lostAt("create.after-boot", { victim: "pid", of: request.sandboxId }, () =>
    agent.client.createSandbox(request),
  );

  expect(code).toBe("Unavailable");
  expect(await agent.statuses()).toEqual({ [id]: "paused" });
  await untilDurable(agent, id);
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
