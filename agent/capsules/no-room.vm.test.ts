// A host whose disk is full to the last block, filled by somebody else: what needs room is refused at once and
// changes nothing, a guest whose write finds none stands still and goes on when there is some, an agent can be
// started again, and a destroy always works.

import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { link, mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { encodeId, encodeUuid, newId } from "../../proto/ids.ts";
import {
  arm,
  codeOf,
  destroyAll,
  pauseDurably,
  resume,
  untilDurable,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { SmallDisk } from "../../tests/harness/small-disk.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";
import type { Failpoint } from "../failpoints.ts";

const STATE = "cat /proc/sys/kernel/random/boot_id /dev/shm/nonce";
/** Is not even tried with a guest; of an image all bytes are read before. */
const REFUSAL_MS_MAX = 20_000;
const CLOCK_OFF_SEC_MAX = 2;

setDefaultTimeout(240_000);

const stack = new AsyncDisposableStack();
let disk: SmallDisk;
let agent: AgentProcess;
let id: string;
let state: string;

beforeAll(async () => {
  disk = stack.use(await SmallDisk.mount("2G"));
  agent = stack.use(await AgentProcess.start(disk.path));
  id = await agent.create();
  await agent.sh(id, "head -c 16 /dev/urandom | base64 > /dev/shm/nonce");
  state = await agent.sh(id, STATE);
});

afterEach(() => disk.makeRoom());
afterAll(() => stack.disposeAsync());

async function expectRefused(call: () => Promise<unknown>): Promise<void> {
  const before = await agent.statuses();
  const startedAt = performance.now();
  expect(await codeOf(call())).toBe("ResourceExhausted");
  expect(performance.now() - startedAt).toBeLessThan(REFUSAL_MS_MAX);
  expect(await agent.statuses()).toEqual(before);
}

function snapshotRequest() {
  return { ...agent.operation(id), teamId: PLATFORM_TEAM, templateId: crypto.randomUUID() };
}

/** Runs the call up to the point, and on without any room. */
async function withoutRoomFrom(point: Failpoint, call: () => Promise<unknown>): Promise<string> {
  await arm(agent, `${point}:stop`);
  const code = codeOf(call());
  await agent.stopped();
  await disk.fillUp();
  agent.goOn();
  return await code;
}

test("what needs room is refused while the guest runs, and it runs on", async () => {
  const child = encodeId("capsule", newId("capsule"));
  const children = [{ ...agent.operation(child), envdAccessToken: "0".repeat(64) }];
  await disk.fillUp();

  await expectRefused(() => agent.create());
  await expectRefused(() => agent.client.pauseSandbox(agent.operation(id)));
  await expectRefused(() => agent.client.createSnapshot(snapshotRequest()));
  await expectRefused(() => agent.client.forkSandbox({ sandboxId: id, children }));

  await disk.makeRoom();
  expect(await agent.sh(id, STATE)).toBe(state);
});

test("a guest that cannot write stands still, and goes on when there is room, with the right time", async () => {
  await disk.fillUp();
  const command = "head -c 64M /dev/urandom > /root/big; sync; md5sum /root/big > /dev/shm/sum";
  const args = ["-c", command];
  await agent.client.startBackground({ sandboxId: id, cmd: "/bin/sh", args, tag: "writer" });
  await waitFor("the guest to stand still", () => isSilent(), { timeoutMs: GUEST_MS });
  // Told at once, not when the call's time is over.
  const call = () => codeOf(agent.client.exec({ sandboxId: id, cmd: "true", timeoutSec: 60 }));
  const isTold = (code: string) => code === "ResourceExhausted";
  await waitFor("the agent to say so", call, { holds: isTold, timeoutMs: GUEST_MS });

  await disk.makeRoom();

  await waitFor("the write to end", () => agent.sh(id, "cat /dev/shm/sum").catch(() => ""), {
    holds: (sum) => sum !== "",
    timeoutMs: GUEST_MS,
  });
  expect(await agent.sh(id, "echo 3 > /proc/sys/vm/drop_caches; md5sum -c /dev/shm/sum")).toBe(
    "/root/big: OK\n",
  );
  const guestSec = Number(await agent.sh(id, "date +%s"));
  expect(Math.abs(guestSec - Date.now() / 1000)).toBeLessThan(CLOCK_OFF_SEC_MAX);
  expect(await agent.sh(id, STATE)).toBe(state);
  await agent.sh(id, "rm /root/big; sync");
});

async function isSilent(): Promise<boolean> {
  const look = { sandboxId: id, cmd: "true", timeoutSec: 1 };
  return (await codeOf(agent.client.exec(look, { timeoutMs: 3_000 }))) !== "none";
}

test.each(["pause.after-begin", "pause.after-freeze", "pause.after-state"] as const)(
  "a pause that runs out of room at %s is refused or holds",
  async (point) => {
    const code = await withoutRoomFrom(point, () => agent.client.pauseSandbox(agent.operation(id)));

    expect(["none", "ResourceExhausted"]).toContain(code);
    const status = code === "none" ? "paused" : "running";
    expect(await agent.statuses()).toEqual({ [id]: status });
    await disk.makeRoom();
    if (status === "paused") {
      await untilDurable(agent, id);
      expect(await resume(agent, id)).toBe("memory");
    }
    expect(await agent.sh(id, STATE)).toBe(state);
  },
);

test("a snapshot that runs out of room leaves nothing, and the capsule runs on", async () => {
  const code = await withoutRoomFrom("capture.after-stop", () =>
    agent.client.createSnapshot(snapshotRequest()),
  );

  expect(code).toBe("ResourceExhausted");
  await disk.makeRoom();
  expect(await agent.sh(id, STATE)).toBe(state);
  expect(await readdir(join(agent.dir, "snapshots"))).toEqual([id]);
});

test("a paused capsule is kept: nothing resumes without room, all does with it", async () => {
  await arm(agent);
  await pauseDurably(agent, id);
  await disk.fillUp();

  for (const from of ["", "memory", "disk"] as const) {
    await expectRefused(() => resume(agent, id, from));
  }
  await agent.kill();
  await agent.restart();
  await expectRefused(() => resume(agent, id));

  await disk.makeRoom();
  expect(await resume(agent, id)).toBe("memory");
  expect(await agent.sh(id, STATE)).toBe(state);
});

test("an image that cannot be imported is another time", async () => {
  const templateId = crypto.randomUUID();
  const dir = join(agent.dir, "images/teams", encodeUuid(PLATFORM_TEAM), encodeUuid(templateId));
  const blobs = join(agent.dir, "images/blobs");
  const [blob = ""] = await readdir(blobs);
  await mkdir(dir);
  await link(join(blobs, blob), join(dir, "rootfs.ext4"));
  await rename(join(blobs, blob), join(blobs, `${blob}.away`));
  const request = () => ({ ...agent.createRequest(), templateId });
  await disk.fillUp();

  await expectRefused(() => agent.client.createSandbox(request()));

  await disk.makeRoom();
  const { sandboxId } = await agent.client.createSandbox(request());
  await agent.client.destroySandbox({ sandboxId });
});

test("an agent is started, and everything destroyed, without any room", async () => {
  await pauseDurably(agent, id);
  const running = await agent.create();
  await disk.fillUp();
  await agent.kill();
  await agent.restart();
  expect(await agent.statuses()).toEqual({ [id]: "paused", [running]: "running" });
  await disk.fillUp();

  await destroyAll(agent);

  expect(await agent.statuses()).toEqual({});
  expect(await agent.leftovers()).toEqual(NOTHING);
});
