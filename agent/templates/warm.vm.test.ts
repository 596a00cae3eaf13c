// Creates that restore a guest which has booted before: each capsule is somebody of its own.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdir, truncate } from "node:fs/promises";
import { join } from "node:path";
import { untilNone } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";
import { FAILPOINTS } from "../failpoints.ts";

const RESTORES = process.env.WRENN_SOAK ? 200 : 5;
/** One for each kind of thing that is there or not at that step; all of them by `make soak`. */
const SOME_POINTS = ["claim", "boot", "stop", "publish"].map((step) => `warm.after-${step}`);
const CLOCK_OFF_MS_MAX = 50;
const IDENTITY = "cat /proc/sys/kernel/random/uuid /etc/machine-id /proc/sys/kernel/hostname";

setDefaultTimeout(300_000);

let agent: AgentProcess;

beforeAll(async () => {
  agent = await AgentProcess.start();
  await agent.kill("SIGTERM");
  await agent.restart({ warm: "on" });
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

async function warmNames(): Promise<string[]> {
  const names = await readdir(join(agent.dir, "warm")).catch(() => []);
  return names.filter((name) => /^[0-9a-f]{64}$/.test(name));
}

async function untilLogged(event: string, times = 1): Promise<void> {
  const look = async () => countOf(await agent.log(), `"${event}"`);
  await waitFor(`${event} in the log`, look, {
    holds: (count) => count >= times,
    timeoutMs: GUEST_MS,
  });
}

async function destroy(sandboxId: string): Promise<void> {
  await agent.client.destroySandbox({ sandboxId });
}

function countOf(log: string, text: string): number {
  return log.split(text).length - 1;
}

test("after the first create others restore its kind, each with names and numbers of its own", async () => {
  await destroy(await agent.create());
  await untilLogged("warm.made");

  const seen: string[] = [];
  for (let i = 0; i < RESTORES; i += 1) {
    const id = await agent.create();
    const sentAt = Date.now();
    const clockMs = Number(await agent.sh(id, "date +%s%3N"));
    expect(clockMs).toBeGreaterThan(sentAt - CLOCK_OFF_MS_MAX);
    expect(clockMs).toBeLessThan(Date.now() + CLOCK_OFF_MS_MAX);
    const names = (await agent.sh(id, IDENTITY)).trim().split("\n");
    expect(names[2]).toBe(id);
    seen.push(...names);
    await destroy(id);
  }

  expect(new Set(seen).size).toBe(3 * RESTORES);
  expect(countOf(await agent.log(), '"source":"warm"')).toBe(RESTORES);
  expect(await agent.leftovers()).toEqual(NOTHING);
});

test("a torn warm snapshot costs a boot, and is made anew", async () => {
  const [name = ""] = await warmNames();
  await truncate(join(agent.dir, "warm", name, "device-state"), 100);

  const id = await agent.create();

  expect(await agent.sh(id, "echo booted")).toBe("booted\n");
  expect(countOf(await agent.log(), '"warm.discarded"')).toBe(1);
  await destroy(id);
  await untilLogged("warm.made", 2);
  expect(await agent.leftovers()).toEqual(NOTHING);
});

describe("killed while a warm snapshot is made", () => {
  const all = FAILPOINTS.filter((point) => point.startsWith("warm."));
  const points = process.env.WRENN_SOAK ? all : all.filter((point) => SOME_POINTS.includes(point));
  test.each(points)("at %s: nothing is left but the capsule", async (point) => {
    for (const name of await warmNames()) {
      await Bun.$`rm -r ${join(agent.dir, "warm", name)}`.quiet();
    }
    await agent.kill("SIGTERM");
    await agent.restart({ warm: "on", failpoint: `${point}:kill` });

    const creating = agent.create().catch(() => "");
    await agent.exited();
    await creating;
    await agent.restart();

    for (const id of Object.keys(await agent.statuses())) await destroy(id);
    await untilNone(agent);
    expect(await agent.leftovers()).toEqual(NOTHING);
  });
});
