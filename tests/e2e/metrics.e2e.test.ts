// What a running platform tells of its capsules and of itself.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { vmmPid } from "../harness/agent-client.ts";
import { apiError, type Capsule, type Client } from "../harness/client.ts";
import { adminClient, newTeamClient, platform } from "../harness/platform.ts";
import { processorShare } from "../harness/processor-share.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";

const MIB = 1024 * 1024;
const RANGES = ["5m", "10m", "1h", "2h", "6h", "12h", "24h"];

interface Metrics {
  readonly sandbox_id: string;
  readonly range: string;
  readonly points: readonly {
    readonly timestamp_unix: number;
    readonly cpu_pct: number;
    readonly mem_bytes: number;
    readonly disk_bytes: number;
  }[];
}

setDefaultTimeout(300_000);

let client: Client;
let capsule: Capsule;
beforeAll(async () => {
  client = await adminClient();
  capsule = await client.create({ memory_mb: 256 });
});
afterAll(() => client.destroy(capsule.id));

const metrics = (query = "") =>
  client.json<Metrics>("GET", `/v1/capsules/${capsule.id}/metrics${query}`);
const lastPoint = async () => (await metrics("?range=5m")).points.at(-1);

/** The values that a program of the platform tells Prometheus, by name and labels. */
async function scrape(program: "cp" | "agent"): Promise<Map<string, number>> {
  const { baseUrl, ports, cpEnv } = await platform();
  const base = program === "cp" ? baseUrl : `http://127.0.0.1:${ports.agentMetrics}`;
  const headers = { authorization: `Bearer ${cpEnv.WRENN_METRICS_TOKEN}` };
  const text = await (await fetch(`${base}/metrics`, { headers })).text();
  const lines = text.split("\n").filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ""), Number(line.split(" ").at(-1))]));
}

test("every range of a running capsule is answered, the last minutes with what it uses", async () => {
  const { points } = await waitFor("points", metrics, {
    holds: (answer) => answer.points.length >= 2,
    timeoutMs: 60_000,
  });
  const answers = await Promise.all(RANGES.map((range) => metrics(`?range=${range}`)));

  const last = points.at(-1);
  expect(last?.mem_bytes).toBeGreaterThan(16 * MIB);
  expect(last?.disk_bytes).toBeGreaterThan(MIB);
  expect(Math.abs((last?.timestamp_unix ?? 0) - Date.now() / 1000)).toBeLessThan(30);
  expect(answers.map(({ range }) => range)).toEqual(RANGES);
});

test("a busy capsule is seen to be busy, and idle again when it is", async () => {
  const loop = { cmd: "sh", args: ["-c", "while :; do :; done"] };
  await client.exec(capsule.id, { ...loop, background: true, tag: "busy" });
  const pid = await vmmPid(capsule);
  const look = async () => {
    const hadPct = await processorShare(pid, 1);
    return { hadPct, point: await lastPoint() };
  };
  const { point: busy } = await waitFor("a busy processor", look, {
    holds: ({ hadPct, point }) => hadPct > 20 && (point?.cpu_pct ?? 0) > 0.7 * hadPct,
    timeoutMs: GUEST_MS,
  });
  await client.fetch(`/v1/capsules/${capsule.id}/processes/busy`, { method: "DELETE" });
  const idle = await waitFor("an idle processor", lastPoint, {
    holds: (point) => (point?.cpu_pct ?? 100) < 40,
    timeoutMs: GUEST_MS,
  });

  expect(busy?.cpu_pct).toBeLessThanOrEqual(100);
  expect(idle?.cpu_pct).toBeGreaterThanOrEqual(0);
});

test("an unknown range is refused and other teams see nothing", async () => {
  const stranger = await newTeamClient();
  const refused = await apiError(metrics("?range=1d"));
  const hidden = await apiError(stranger.json("GET", `/v1/capsules/${capsule.id}/metrics`));

  expect([refused.status, refused.code]).toEqual([400, "invalid_request"]);
  expect(refused.message).toContain("range");
  expect([hidden.status, hidden.code]).toEqual([404, "not_found"]);
});

test("a capsule that rests is told of as before, and one that runs again with its past", async () => {
  const resting = await client.create({ memory_mb: 256 });
  const path = `/v1/capsules/${resting.id}`;
  const of = (range: string) => client.json<Metrics>("GET", `${path}/metrics?range=${range}`);
  const { points: before } = await waitFor("points", () => of("10m"), {
    holds: (m) => m.points.length >= 2,
    timeoutMs: 60_000,
  });
  await client.json("POST", `${path}/pause`);
  const paused = await Promise.all(RANGES.map(of));
  await client.json("POST", `${path}/resume`);
  const { points: resumed } = await waitFor("points of the resumed capsule", () => of("10m"), {
    holds: (m) => m.points.length > (paused[1]?.points.length ?? 0),
    timeoutMs: 60_000,
  });
  await client.destroy(resting.id);

  expect(paused.map(({ range }) => range)).toEqual(RANGES);
  expect(paused[1]?.points.slice(0, before.length)).toEqual([...before]);
  expect(resumed.slice(0, before.length)).toEqual([...before]);
});

test("both programs tell Prometheus of themselves and of capsules", async () => {
  await metrics();
  const [cp, agent] = [await scrape("cp"), await scrape("agent")];
  const served = 'method="GET",route="/v1/capsules/:id/metrics",status="200"';

  expect(cp.get('wrenn_cp_capsules{state="running"}')).toBeGreaterThanOrEqual(1);
  expect(cp.get(`wrenn_cp_http_request_duration_seconds_count{${served}}`)).toBeGreaterThan(0);
  const asked = 'method="GetSandboxMetrics",outcome="ok"';
  expect(cp.get(`wrenn_cp_agent_call_duration_seconds_count{${asked}}`)).toBeGreaterThan(0);
  expect(cp.get('wrenn_cp_loop_passes_total{loop="monitor-hosts"}')).toBeGreaterThan(0);
  expect(cp.get("wrenn_cp_database_up")).toBe(1);
  expect(agent.get('wrenn_agent_capsules{state="running"}')).toBeGreaterThanOrEqual(1);
  expect(agent.get('wrenn_agent_creates_total{outcome="ok"}')).toBeGreaterThan(0);
  expect(agent.get("wrenn_agent_capsule_memory_bytes")).toBeGreaterThan(16 * MIB);
  expect(agent.get("wrenn_agent_capsule_cpu_seconds_total")).toBeGreaterThan(0);
  for (const name of ["warm_hits_total", "warm_evicted_total", "pager_faults_total", "pagers"]) {
    expect([name, agent.get(`wrenn_agent_${name}`)]).toEqual([name, expect.any(Number)]);
  }
  expect([...cp.keys(), ...agent.keys()].filter((key) => key.includes("cl-"))).toEqual([]);
});

test("no program tells a stranger, nor whoever has an API key", async () => {
  const { baseUrl, ports, account } = await platform();
  const urls = [
    `${baseUrl}/metrics`,
    `${baseUrl}/internal/loops`,
    `${baseUrl}/api/metrics`,
    `http://127.0.0.1:${ports.agentMetrics}/metrics`,
  ];
  const statuses = await Promise.all(
    urls.flatMap((url) =>
      [{}, { "x-api-key": account.apiKey }].map(
        async (headers) => (await fetch(url, { headers })).status,
      ),
    ),
  );

  expect(statuses).toEqual(statuses.map(() => 401));
});

test("a destroyed capsule has no metrics", async () => {
  const short = await client.create({ memory_mb: 256 });
  await client.destroy(short.id);

  const { status, code } = await apiError(client.json("GET", `/v1/capsules/${short.id}/metrics`));
  expect([status, code]).toEqual([404, "not_found"]);
});
