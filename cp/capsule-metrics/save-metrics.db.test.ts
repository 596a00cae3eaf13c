// What capsules at rest have used, from their hosts and after those.

import { beforeEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { decodeId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { addTeam, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { saveMetrics } from "./save-metrics.ts";

const DAY_MS = 24 * 3600 * 1000;
const RANGES = ["5m", "10m", "1h", "2h", "6h", "12h", "24h"];

const platform = await forThisFile(TestPlatform.start());

let id: string;
/** A capsule that its host has run for a day, paused. */
beforeEach(async () => {
  id = await platform.create();
  const known = platform.agent.capsules.get(id);
  if (!known) throw new Error("the agent does not have it");
  platform.agent.capsules.set(id, { ...known, createdAt: Date.now() - 2 * DAY_MS });
  await platform.call("POST", `/v1/capsules/${id}/pause`);
});

const pass = async () => {
  const { agents, db, log } = platform.controlPlane.deps;
  return await saveMetrics({ agents, db, log }, new AbortController().signal);
};

async function points(range: string): Promise<readonly unknown[]> {
  const { status, body } = await platform.call("GET", `/v1/capsules/${id}/metrics?range=${range}`);
  return status === 200 && Array.isArray(body.points) ? body.points : [status, body.error?.code];
}

const setHost = async (status: string) => {
  await platform.database.sql`update hosts set status = ${status}`;
};

const stored = async () => {
  const rows = await platform.database.sql`select count(*)::int as n from capsule_metric_points`;
  return Number(rows[0]?.n);
};

test("every range is told of a paused capsule, also when its host is away", async () => {
  const fromHost = await Promise.all(RANGES.map(points));
  const counts = await pass();
  await setHost("unreachable");
  const copied = await Promise.all(RANGES.map(points));
  await setHost("online");

  expect(counts).toMatchObject({ saved: 1, failed: 0 });
  expect(fromHost.map(({ length }) => length)).toEqual([600, 1200, 120, 240, 72, 144, 288]);
  for (const [i, copy] of copied.entries()) {
    const known = new Set(fromHost[i]?.map((point) => JSON.stringify(point)));
    const strange = copy.filter((point) => !known.has(JSON.stringify(point)));
    expect(copy.length).toBeGreaterThan(known.size * 0.9);
    // The simulated host's clock moves on a little between the question and the copy.
    expect(strange.length).toBeLessThan(10);
  }
});

// A host whose clock was ahead, and is set: for a day its capsules would have points of tomorrow.
test("points of a time to come are neither told nor kept", async () => {
  await pass();
  const { sql } = platform.database;
  const uuid = decodeId("capsule", id);
  const tomorrow = Date.now() + DAY_MS;
  await sql`insert into capsule_metric_points (capsule_id, tier, ts, cpu_pct, mem_bytes, disk_bytes)
    select ${uuid}, tier, ${tomorrow}::bigint, 7, 7, 7 from unnest(array['10m', '2h', '24h']) as tier`;
  const future = async () => {
    const [row] = await sql`
      select count(*)::int as n from capsule_metric_points where ts > ${Date.now() + DAY_MS / 2}::bigint`;
    return Number(row?.n);
  };
  await setHost("unreachable");
  const told = (await Promise.all(RANGES.map(points))).flat();
  await setHost("online");
  const before = await future();
  await sql`update capsules set metrics_saved_for = null where id = ${uuid}`;
  await pass();

  expect(told.length).toBeGreaterThan(1000);
  expect(told.filter((point) => JSON.stringify(point).includes('"mem_bytes":7,'))).toEqual([]);
  expect([before, await future()]).toEqual([3, 0]);
});

test("a copy is made once for each pause, and only of what is at rest", async () => {
  await pass();
  const again = await pass();
  await platform.call("POST", `/v1/capsules/${id}/resume`);
  const running = await pass();
  await platform.call("POST", `/v1/capsules/${id}/pause`);
  const once = await pass();

  expect([again.saved, running.saved, once.saved]).toEqual([0, 0, 1]);
});

test("a host that does not answer is asked again", async () => {
  platform.agent.faultBefore("getSandboxMetrics", () => {
    throw new ConnectError("the agent is stopping", Code.Unavailable);
  });
  const failed = await pass();
  const later = await pass();

  expect([failed.saved, failed.failed, later.saved, later.failed]).toEqual([0, 1, 1, 0]);
});

test("a capsule that its host has lost is not asked for again and again", async () => {
  platform.agent.capsules.delete(id);

  expect([(await pass()).saved, (await pass()).saved]).toEqual([1, 0]);
});

test("nothing is left of a capsule that has ended", async () => {
  await pass();
  expect(await stored()).toBeGreaterThan(0);
  await platform.database.sql`update capsules set status = 'stopped'`;
  const { removed } = await pass();

  expect(removed).toBeGreaterThan(0);
  expect([await stored(), await points("10m")]).toEqual([0, [404, "not_found"]]);
});

test("another team sees nothing, and a host that is away leaves a running capsule without", async () => {
  await pass();
  await setHost("unreachable");
  const team = await addTeam(platform.database);
  const others = await platform.call("GET", `/v1/capsules/${id}/metrics`, { team });
  await platform.database.sql`update capsules set status = 'running'`;
  const running = await points("10m");
  await setHost("online");

  expect([others.status, running]).toEqual([404, [503, "host_unavailable"]]);
});
