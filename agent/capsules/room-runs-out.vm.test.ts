// A host whose disk fills up, to the last block, while something is on its way: it is refused or it holds, what
// it began is gone, and what was there before is as it was.

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { encodeId, newId } from "../../proto/ids.ts";
import { arm, infoOf, resume, untilDurable } from "../../tests/harness/agent-calls.ts";
import { NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { CrampedAgent } from "../../tests/harness/cramped-agent.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";
import { FAILPOINTS } from "../failpoints.ts";

const isSoak = Boolean(process.env.WRENN_SOAK);

setDefaultTimeout(240_000);

const cramped = await forThisFile(CrampedAgent.start("3G"));
const { disk, agent, id, state } = cramped;

afterEach(() => cramped.makeRoom());

const pointsOf = (verb: string, some: readonly string[]) =>
  FAILPOINTS.filter((point) => point.startsWith(`${verb}.`)).filter(
    (point) => isSoak || some.includes(point),
  );

async function countOf(event: string): Promise<number> {
  return (await agent.log()).split(`"${event}"`).length - 1;
}

function snapshotRequest() {
  return { ...agent.operation(id), teamId: PLATFORM_TEAM, templateId: crypto.randomUUID() };
}

test.each(["pause.after-begin", "pause.after-freeze", "pause.after-state"] as const)(
  "a pause that runs out of room at %s is refused or holds",
  async (point) => {
    const code = await cramped.withoutRoomFrom(point, () =>
      agent.client.pauseSandbox(agent.operation(id)),
    );

    expect(["none", "ResourceExhausted"]).toContain(code);
    const status = code === "none" ? "paused" : "running";
    expect(await agent.statuses()).toEqual({ [id]: status });
    await cramped.makeRoom();
    if (status === "paused") {
      await untilDurable(agent, id);
      expect(await resume(agent, id)).toBe("memory");
    }
    expect(await cramped.stateOf()).toBe(state);
  },
);

test("a snapshot that runs out of room leaves nothing, and the capsule runs on", async () => {
  const code = await cramped.withoutRoomFrom("capture.after-stop", () =>
    agent.client.createSnapshot(snapshotRequest()),
  );

  expect(code).toBe("ResourceExhausted");
  await cramped.makeRoom();
  expect(await cramped.stateOf()).toBe(state);
  expect(await readdir(join(agent.dir, "snapshots"))).toEqual([id]);
});

// All of a pause but its answer, which came before: a seal writes memory, disk, tables, and the journal.
test.each(pointsOf("seal", ["seal.after-memory", "seal.after-seal"]))(
  "a seal that runs out of room at %s leaves the capsule paused, and durable in the end",
  async (point) => {
    // It is answered before the seal begins.
    await arm(agent, `${point}:stop`);
    await agent.client.pauseSandbox(agent.operation(id));
    await agent.stopped();
    await disk.fillUp();
    const before = await countOf("capsule.seal-failed");
    agent.goOn();
    const isOver = async () => {
      const isDurable = Boolean((await infoOf(agent, id))?.durableAtUnix);
      return isDurable || (await countOf("capsule.seal-failed")) > before;
    };
    await waitFor("an end of the seal", isOver, { timeoutMs: GUEST_MS });
    expect(await agent.statuses()).toEqual({ [id]: "paused" });

    await cramped.makeRoom();

    await untilDurable(agent, id);
    expect(await readdir(join(agent.dir, "snapshots", id))).not.toContain("paused.partial");
    expect(await resume(agent, id)).toBe("memory");
    expect(await cramped.stateOf()).toBe(state);
  },
);

test.each(["fork.after-hold", ...pointsOf("create", ["create.after-network"])] as const)(
  "children of a fork that run out of room at %s are refused or whole, each by itself",
  async (point) => {
    const before = await leftoversOfOthers();
    const children = Array.from({ length: 2 }, () => ({
      ...agent.operation(encodeId("capsule", newId("capsule"))),
      envdAccessToken: "0".repeat(64),
    }));
    let results: readonly { sandboxId: string; errorCode: string }[] = [];

    const code = await cramped.withoutRoomFrom(point, async () => {
      ({ results } = await agent.client.forkSandbox({ sandboxId: id, children, timeoutSec: 0 }));
    });
    await cramped.makeRoom();

    expect([code, results.length]).toEqual(["none", 2]);
    const whole = results.filter(({ errorCode }) => errorCode === "");
    const failures = results.map(({ errorCode }) => errorCode).filter((code) => code !== "");
    expect(new Set([...failures, "resource_exhausted"])).toEqual(new Set(["resource_exhausted"]));
    for (const { sandboxId } of whole) expect(await cramped.stateOf(sandboxId)).toBe(state);
    // Without room the journal could not be told that a refused one is gone.
    const isWhole = (statuses: Record<string, string>) =>
      Object.values(statuses).every((status) => status === "running");
    const left = await waitFor("the refused ones to go", () => agent.statuses(), {
      holds: isWhole,
      timeoutMs: GUEST_MS,
    });
    expect(Object.keys(left).toSorted()).toEqual(
      [id, ...whole.map(({ sandboxId }) => sandboxId)].toSorted(),
    );
    for (const { sandboxId } of whole) await agent.client.destroySandbox({ sandboxId });
    expect(await cramped.stateOf()).toBe(state);
    expect(await leftoversOfOthers()).toEqual(before);
  },
);

async function warmNames(): Promise<string[]> {
  const names = await readdir(join(agent.dir, "warm")).catch(() => []);
  return names.filter((name) => /^[0-9a-f]{64}$/.test(name));
}

test.each(pointsOf("warm", ["warm.after-stop"]))(
  "a warm snapshot that runs out of room at %s is whole or none, and its guest leaves nothing",
  async (point) => {
    const before = await leftoversOfOthers();
    for (const name of await warmNames()) {
      await rm(join(agent.dir, "warm", name), { recursive: true });
    }
    await agent.kill("SIGTERM");
    await agent.restart({ warm: "on", failpoint: `${point}:stop` });
    const creating = agent.create().catch(() => null);
    await agent.stopped();
    await disk.fillUp().finally(() => agent.goOn());
    const first = await creating;
    const known = [id, ...(first === null ? [] : [first])].toSorted();
    const vmms = async () => {
      const names = await readdir(join(agent.dir, "run"));
      return names.filter((name) => name.startsWith("cl-")).toSorted();
    };
    await waitFor("the end of its guest", vmms, {
      holds: (ids) => Bun.deepEquals(ids, known),
      timeoutMs: 2 * GUEST_MS,
    });
    expect(Object.keys(await agent.statuses()).toSorted()).toEqual(known);

    await cramped.makeRoom();

    // With the snapshot, if it came to one, or without: never with a half.
    const refusals = (await countOf("warm.fallback")) + (await countOf("warm.set-aside"));
    const second = await agent.create();
    expect(await agent.sh(second, "echo here")).toBe("here\n");
    expect((await countOf("warm.fallback")) + (await countOf("warm.set-aside"))).toBe(refusals);
    expect(await cramped.stateOf()).toBe(state);
    for (const sandboxId of Object.keys(await agent.statuses())) {
      if (sandboxId !== id) await agent.client.destroySandbox({ sandboxId });
    }
    await arm(agent);
    await waitFor("what it had to go", leftoversOfOthers, {
      holds: (left) => Bun.deepEquals(left, before),
      timeoutMs: GUEST_MS,
    });
  },
);

/** The source has a directory for snapshots from its first one on. */
async function leftoversOfOthers() {
  const left = await agent.leftovers();
  return { ...left, files: left.files.filter((name) => name !== `snapshots/${id}`) };
}

test("nothing of it all is left", async () => {
  await agent.client.destroySandbox({ sandboxId: id });

  expect(await agent.leftovers()).toEqual(NOTHING);
});
