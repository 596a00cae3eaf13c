import { expect, test } from "bun:test";
import { Elysia } from "elysia";
import { newId } from "../../proto/ids.ts";
import { AccountsPlatform, METRICS_TOKEN } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { CAPSULE_ROW } from "../../tests/harness/rows.ts";
import { addHost, addTeam } from "../../tests/harness/simulated-agent-platform.ts";
import { openDatabase } from "../db/client.ts";
import { capsules } from "../db/tables.ts";
import { AppError } from "../errors.ts";
import { ControlPlaneMetrics, type LoopReport } from "./control-plane-metrics.ts";
import { metricsRoutes } from "./routes.ts";

const platform = await forThisFile(AccountsPlatform.start());

const operator = { authorization: `Bearer ${METRICS_TOKEN}` };
const get = (path: string, headers: Record<string, string> = operator) =>
  platform.app.handle(new Request(`http://localhost${path}`, { headers }));

/** The values by name and labels. */
function parse(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ""), Number(line.split(" ").at(-1))]));
}

const scrape = async () => parse(await (await get("/metrics")).text());

const LOOP: LoopReport = {
  name: "sweep",
  everyMs: 1000,
  passes: 7,
  failures: 2,
  lastError: "Error: no",
  lastCounts: { swept: 3 },
  seconds: 1.5,
  lastSeconds: 0.25,
  lastEndedAt: new Date("2026-01-01T00:00:00Z"),
};

/** Metrics of their own, with a clock that the test moves. */
function metricsOn(db = platform.database.db, clock = { ms: 0 }): ControlPlaneMetrics {
  return new ControlPlaneMetrics({
    ...{ db, version: "1.0.0", connectionsMax: 4 },
    loops: () => [LOOP],
    monotonicMs: () => clock.ms,
  });
}

test("metrics are in Prometheus' text format, each with its help and type", async () => {
  const response = await get("/metrics");
  const text = await response.text();
  const names = [...text.matchAll(/^# TYPE (\S+) (counter|gauge|histogram)$/gm)].map(([, n]) => n);

  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(names).toContain("wrenn_cp_http_request_duration_seconds");
  expect(names.every((name) => text.includes(`# HELP ${name} `))).toBe(true);
  expect([...parse(text).values()].every(Number.isFinite)).toBe(true);
});

test("whoever has no token, or a person's, reads neither metrics nor loops", async () => {
  const { token } = await platform.person();
  const attempts = ["/metrics", "/internal/loops"].flatMap((path) =>
    [{}, { authorization: `Bearer ${token}` }, { authorization: `Basic ${METRICS_TOKEN}` }].map(
      async (headers) => (await get(path, headers)).status,
    ),
  );

  expect(await Promise.all(attempts)).toEqual(attempts.map(() => 401));
});

test("requests are counted by method, pattern of their route and status", async () => {
  const url = "/v1/capsules/:id";
  const name = (labels: string) => `wrenn_cp_http_request_duration_seconds_count{${labels}}`;
  const unauthorized = name(`method="GET",route="${url}",status="401"`);
  const unreadable = name('method="POST",route="/v1/auth/login",status="400"');
  const unknown = name('method="GET",route="none",status="404"');
  const strange = name('method="other",route="none",status="404"');
  const before = await scrape();

  await get("/v1/capsules/cl-1", {});
  await get("/api/v1/capsules/cl-2", {});
  await platform.app.handle(
    new Request("http://localhost/v1/auth/login", { method: "POST", body: "{" }),
  );
  await get("/v1/nothing");
  await platform.app.handle(new Request("http://localhost/x", { method: "PROPFIND" }));

  const after = await scrape();
  const added = [unauthorized, unreadable, unknown, strange].map(
    (key) => (after.get(key) ?? 0) - (before.get(key) ?? 0),
  );
  expect(added).toEqual([2, 1, 1, 1]);
});

// A label that a client can choose is memory that a client can fill.
test("a thousand paths, methods and ids make no metric of their own", async () => {
  const count = async () => (await scrape()).size;
  await get("/v1/capsules/warm", {});
  await get("/nothing/warm", {});
  await platform.app.handle(new Request("http://localhost/nothing", { method: "WARM" }));
  await count();
  const before = await count();

  for (let i = 0; i < 300; i++) {
    await get(`/v1/capsules/cl-${i}`, {});
    await get(`/nothing/${i}`, {});
    await platform.app.handle(new Request("http://localhost/nothing", { method: `M${i}` }));
  }

  expect(await count()).toBe(before);
});

test("capsules are counted by state, those that ended left out", async () => {
  const team = await addTeam(platform.database);
  const hostId = await addHost(platform.database, "127.0.0.1:9");
  const operationId = crypto.randomUUID();
  const common = { ...CAPSULE_ROW, teamId: team.id, hostId, operationId };
  for (const status of ["running", "running", "starting", "stopped", "error"] as const) {
    await platform.database.db.insert(capsules).values({ id: newId("capsule"), status, ...common });
  }
  using metrics = metricsOn();

  const values = parse(await metrics.text());

  expect(values.get('wrenn_cp_capsules{state="running"}')).toBe(2);
  expect(values.get('wrenn_cp_capsules{state="starting"}')).toBe(1);
  expect(values.get('wrenn_cp_capsules{state="paused"}')).toBe(0);
  expect(values.get('wrenn_cp_capsules{state="stopped"}')).toBeUndefined();
  expect(values.get("wrenn_cp_database_up")).toBe(1);
  expect(values.get("wrenn_cp_database_connections_max")).toBe(4);
  expect(values.get('wrenn_cp_database_connections{state="active"}')).toBeGreaterThan(0);
});

test("the database is asked once in a few seconds, however many read", async () => {
  const clock = { ms: 0 };
  using metrics = metricsOn(platform.database.db, clock);
  const running = async () => parse(await metrics.text()).get('wrenn_cp_capsules{state="running"}');
  const first = await running();
  await platform.database.sql`update capsules set status = 'stopped'`;
  const kept = await running();
  clock.ms += 6000;

  expect([kept, await running()]).toEqual([first, 0]);
});

test("without the database everything else is still told", async () => {
  const gone = openDatabase("postgres://wrenn:wrong@127.0.0.1:9/none");
  using metrics = metricsOn(gone.db);

  const values = parse(await metrics.text());
  await gone.close();

  expect(values.get("wrenn_cp_database_up")).toBe(0);
  expect([...values.keys()].filter((key) => key.startsWith("wrenn_cp_capsules"))).toEqual([]);
  expect(values.get('wrenn_cp_loop_passes_total{loop="sweep"}')).toBe(7);
  expect(values.get('wrenn_cp_loop_failures_total{loop="sweep"}')).toBe(2);
  expect(values.get('wrenn_cp_loop_seconds_total{loop="sweep"}')).toBe(1.5);
});

test("calls to agents are counted by method and outcome", async () => {
  using metrics = metricsOn();
  metrics.observeAgentCall({ method: "Exec", outcome: "ok", seconds: 0.2 });
  metrics.observeAgentCall({ method: "Exec", outcome: "Unavailable", seconds: 2 });

  const values = parse(await metrics.text());

  const name = "wrenn_cp_agent_call_duration_seconds";
  expect(values.get(`${name}_count{method="Exec",outcome="ok"}`)).toBe(1);
  expect(values.get(`${name}_sum{method="Exec",outcome="Unavailable"}`)).toBe(2);
});

test("the loops are listed with what their driver knows of them", async () => {
  using metrics = metricsOn();
  const app = metricsRoutes({ metrics, metricsToken: METRICS_TOKEN });

  const response = await app.handle(
    new Request("http://localhost/internal/loops", { headers: operator }),
  );

  expect(await response.json()).toEqual({
    loops: [
      {
        name: "sweep",
        every_ms: 1000,
        passes: 7,
        failures: 2,
        seconds: 1.5,
        last_seconds: 0.25,
        last_ended_at: "2026-01-01T00:00:00Z",
        last_error: "Error: no",
        last_counts: { swept: 3 },
      },
    ],
  });
});

test("without a token in the settings nobody reads them", async () => {
  using metrics = metricsOn();
  const app = new Elysia()
    .onError({ as: "global" }, ({ error }) =>
      Response.json(null, { status: error instanceof AppError ? error.status : 500 }),
    )
    .use(metricsRoutes({ metrics, metricsToken: null }));
  const statusOf = async (path: string) =>
    (await app.handle(new Request(`http://localhost${path}`, { headers: operator }))).status;

  expect([await statusOf("/metrics"), await statusOf("/internal/loops")]).toEqual([404, 404]);
});
