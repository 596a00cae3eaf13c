// The part of the contract of agents that is about what capsules use.

import { expect, test } from "bun:test";
import type { AgentClient } from "../../cp/agents/agent-clients.ts";
import { encodeId, newId } from "../../proto/ids.ts";
import { waitFor } from "../harness/wait-for.ts";
import { codeOf, failureOf } from "./rpc-failure.ts";

const RANGES = ["5m", "10m", "1h", "2h", "6h", "12h", "24h"];

/** Registers the tests; `subject` is asked in each of them. */
export function testMetricContract(subject: () => { client: AgentClient; id: string }): void {
  const metrics = async (range: string) => {
    const { client, id } = subject();
    return (await client.getSandboxMetrics({ sandboxId: id, range })).points;
  };
  const lastActiveAt = async () => {
    const { client, id } = subject();
    const { sandboxes } = await client.listSandboxes({});
    return sandboxes.find(({ sandboxId }) => sandboxId === id)?.lastActiveAtUnix;
  };

  test("a running capsule tells within seconds what it uses", async () => {
    const points = await waitFor("three points", () => metrics("10m"), {
      holds: (all) => all.length >= 3,
    });
    const times = points.map(({ timestampUnix }) => Number(timestampUnix));
    const nowSec = Date.now() / 1000;
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times.every((time) => time > nowSec - 601 && time <= nowSec)).toBe(true);
    expect(points.every(({ cpuPct }) => cpuPct >= 0 && cpuPct <= 100)).toBe(true);
    expect(points.every(({ memBytes, diskBytes }) => memBytes > 0n && diskBytes > 0n)).toBe(true);
  });

  test("every range is answered", async () => {
    const lengths = await Promise.all(RANGES.map(async (range) => (await metrics(range)).length));

    expect(lengths.every((length) => length <= 1200)).toBe(true);
  });

  test("another range is the caller's mistake", async () => {
    expect([await codeOf(metrics("")), await codeOf(metrics("30d"))]).toEqual([
      "InvalidArgument",
      "InvalidArgument",
    ]);
  });

  test("an unknown capsule has no metrics", async () => {
    const sandboxId = encodeId("capsule", newId("capsule"));
    const asked = subject().client.getSandboxMetrics({ sandboxId, range: "10m" });

    expect(await failureOf(asked)).toEqual({ code: "NotFound", reason: "capsule" });
  });

  test("looking at what a capsule uses is no activity", async () => {
    const before = await lastActiveAt();
    await waitFor("the next second", () => Date.now() / 1000 >= Number(before) + 1);

    await metrics("10m");

    expect(await lastActiveAt()).toBe(before);
  });
}
