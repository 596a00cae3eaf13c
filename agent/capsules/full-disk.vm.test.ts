// A host whose disk is full: pauses are refused and guests run on; what was answered as paused stays so,
// can be resumed, and becomes durable once there is room.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  arm,
  codeOf,
  destroyAll,
  infoOf,
  resume,
  untilDurable,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

const MIB = 1024 * 1024;
/** Less than a pause wants to see free or memory takes, and enough for a journal. */
const NEARLY_FULL_MIB = 24;
const STATE = "cat /proc/sys/kernel/random/boot_id /dev/shm/nonce";

setDefaultTimeout(240_000);

const stack = new AsyncDisposableStack();
let place: string;
let agent: AgentProcess;
let id: string;
let state: string;

beforeAll(async () => {
  const home = await mkdtemp(join(tmpdir(), "wrenn-full-"));
  stack.defer(() => rm(home, { recursive: true }));
  place = join(home, "xfs");
  await mkdir(place);
  await run(["truncate", "--size", "4G", join(home, "image")]);
  await run(["mkfs.xfs", "-q", "-m", "reflink=1", join(home, "image")]);
  await run(["mount", "-o", "loop,discard", join(home, "image"), place]);
  stack.defer(() => run(["umount", place]));
  agent = stack.use(await AgentProcess.start(place));
  id = await agent.create();
  await agent.sh(id, "head -c 16 /dev/urandom | base64 > /dev/shm/nonce");
  state = await agent.sh(id, STATE);
});

afterAll(() => stack.disposeAsync());

async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "inherit"] });
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed`);
}

async function fill(): Promise<void> {
  const { bavail, bsize } = await statfs(place);
  const bytes = bavail * bsize - NEARLY_FULL_MIB * MIB;
  await run(["fallocate", "--length", String(bytes), join(place, "filler")]);
}

async function makeRoom(): Promise<void> {
  await rm(join(place, "filler"), { force: true });
}

async function failedSeals(): Promise<number> {
  return (await agent.log()).split('"capsule.seal-failed"').length - 1;
}

/** Pauses the capsule, and takes the room away before its memory is on the disk. */
async function pauseWithoutRoom(): Promise<void> {
  await arm(agent, "pause.after-paused:stop");
  const before = await failedSeals();
  const pausing = agent.client.pauseSandbox(agent.operation(id));
  await agent.stopped();
  await fill();
  agent.goOn();
  await pausing;
  await waitFor("a seal that failed", failedSeals, {
    holds: (count) => count > before,
    timeoutMs: GUEST_MS,
  });
}

test("a pause without room is refused, and the capsule runs on", async () => {
  await fill();

  expect(await codeOf(agent.client.pauseSandbox(agent.operation(id)))).toBe("ResourceExhausted");

  expect(await agent.statuses()).toEqual({ [id]: "running" });
  expect(await agent.sh(id, STATE)).toBe(state);
  await makeRoom();
});

test("sealing without room leaves the capsule paused; it can be resumed, or becomes durable later", async () => {
  await agent.sh(id, "head -c 64M /dev/urandom > /dev/shm/big; md5sum /dev/shm/big > /dev/shm/sum");
  await pauseWithoutRoom();
  const info = await infoOf(agent, id);
  expect([info?.status, info?.durableAtUnix]).toEqual(["paused", 0n]);

  expect(await resume(agent, id)).toBe("memory");
  expect(await agent.sh(id, STATE)).toBe(state);

  await makeRoom();
  await pauseWithoutRoom();
  await makeRoom();
  await untilDurable(agent, id);
  expect(await readdir(join(agent.dir, "snapshots", id))).not.toContain("paused.partial");
  expect(await resume(agent, id)).toBe("memory");
  expect(await agent.sh(id, STATE)).toBe(state);
  expect(await agent.sh(id, "md5sum -c /dev/shm/sum")).toBe("/dev/shm/big: OK\n");
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
