import { afterEach, beforeEach, expect, test } from "bun:test";
import { AgentMetrics, type HostReport } from "./agent-metrics.ts";
import { type PagerStats, PagerUsage } from "./pager-usage.ts";
import { answerScrape } from "./scrape.ts";

const TOKEN = "a token of whoever runs Prometheus";

let report: HostReport;
let metrics: AgentMetrics;
/** Runs of VMMs, and what their pagers tell; null without a pager. */
let runs: string[];
let pagers: Map<string, PagerStats | null>;
beforeEach(() => {
  runs = [];
  pagers = new Map();
  report = {
    capsules: [
      { status: "running", vcpus: 2 },
      { status: "running", vcpus: 1 },
      { status: "error", vcpus: 8 },
    ],
    usage: { cpuSeconds: 1.5, memoryBytes: 3000, diskBytes: 4096 },
    guestStreams: 5,
    warm: { hits: 9, misses: 3, fallbacks: 1, made: 2, failed: 4, evicted: 5 },
    network: { ready: 3, wanted: 4, failures: 1 },
    lanes: { network: { waiting: 7, running: 2 }, storage: { waiting: 0, running: 1 } },
  };
  metrics = new AgentMetrics({
    version: "1.2.3",
    report: () => report,
    pagers: new PagerUsage({
      runs: () => runs.map((name) => ({ id: name, name })),
      statsOf: async (id) => {
        const stats = pagers.get(id);
        if (stats === undefined) throw new Error("it does not answer");
        return stats;
      },
    }),
    host: { vmm: "qemu", vmm_version: "7.2", accel: "tcg", kernel: "6.1.0", cow: "copy" },
  });
});
afterEach(() => metrics[Symbol.dispose]());

async function values(): Promise<Map<string, number>> {
  const lines = (await metrics.text()).split("\n").filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ""), Number(line.split(" ").at(-1))]));
}

/** Those with that name, by their labels. */
async function named(name: string): Promise<Record<string, number>> {
  const found = [...(await values())].filter(([key]) => key.replace(/\{.*/, "") === name);
  return Object.fromEntries(found.map(([key, value]) => [key.slice(name.length), value]));
}

test("a host tells what capsules run on and how many there are of each state", async () => {
  expect(await named("wrenn_agent_host_info")).toEqual({
    '{vmm="qemu",vmm_version="7.2",accel="tcg",kernel="6.1.0",cow="copy"}': 1,
  });
  expect(await named("wrenn_agent_capsules")).toEqual({
    '{state="running"}': 2,
    '{state="error"}': 1,
  });
  expect(await named("wrenn_agent_capsule_vcpus")).toEqual({ "": 3 });
});

test("a state that no capsule has any more is told as zero", async () => {
  await values();
  report = { ...report, capsules: [] };

  expect(await named("wrenn_agent_capsules")).toEqual({
    '{state="running"}': 0,
    '{state="error"}': 0,
  });
});

test("what capsules use is told as sums, counters as they are at each reading", async () => {
  await values();
  report = { ...report, usage: { cpuSeconds: 2.5, memoryBytes: 1, diskBytes: 2 } };

  const now = await values();

  expect(now.get("wrenn_agent_capsule_cpu_seconds_total")).toBe(2.5);
  expect(now.get("wrenn_agent_capsule_memory_bytes")).toBe(1);
  expect(now.get("wrenn_agent_capsule_disk_bytes")).toBe(2);
});

test("guests that have booted are counted by what came of them", async () => {
  const names = ["hits", "misses", "fallbacks", "made", "failed", "evicted"];
  const reported = await Promise.all(names.map((name) => named(`wrenn_agent_warm_${name}_total`)));

  expect(reported.map((values) => values[""])).toEqual([9, 3, 1, 2, 4, 5]);
});

test("pagers are told as sums that never go back, whoever ends or does not answer", async () => {
  const faults = () => named("wrenn_agent_pager_faults_total");
  const stats = (count: number, faultP99Ns: number) => {
    return { state: "serving", faults: count, pagesPrefetched: 10 * count, faultP99Ns };
  };
  runs = ["a", "b", "booted", "silent"];
  pagers = new Map([
    ["a", stats(5, 3000)],
    ["b", stats(7, 90_000)],
    ["booted", null],
  ]);
  const first = [await faults(), await named("wrenn_agent_pager_fault_p99_seconds")];
  pagers.set("a", stats(6, 3000));
  const second = [await faults(), await named("wrenn_agent_pager_prefetched_pages_total")];
  runs = ["a"];
  const third = [await faults(), await named("wrenn_agent_pagers")];

  expect(first).toEqual([{ "": 12 }, { "": 0.00009 }]);
  expect(second).toEqual([{ "": 13 }, { "": 130 }]);
  expect(third).toEqual([{ "": 13 }, { "": 1 }]);
});

test("pools and queues are told", async () => {
  const now = await values();

  expect(now.get("wrenn_agent_network_slots_ready")).toBe(3);
  expect(now.get("wrenn_agent_network_slots_wanted")).toBe(4);
  expect(now.get("wrenn_agent_network_fill_failures_total")).toBe(1);
  expect(now.get("wrenn_agent_guest_streams")).toBe(5);
  expect(now.get('wrenn_agent_native_calls_waiting{lane="network"}')).toBe(7);
  expect(now.get('wrenn_agent_native_calls_running{lane="storage"}')).toBe(1);
});

test("creates are counted by how they ended, and timed by step", async () => {
  metrics.observeCreated({ network_ms: 12, guest_ms: 3000, total_ms: 3050 });
  metrics.observeCreateFailed("resource_exhausted");
  metrics.observeGuestCall("ok");
  metrics.observeGuestCall("unavailable");

  const step = "wrenn_agent_create_step_duration_seconds";
  expect(await named("wrenn_agent_creates_total")).toEqual({
    '{outcome="ok"}': 1,
    '{outcome="resource_exhausted"}': 1,
  });
  expect(await named(`${step}_sum`)).toEqual({
    '{step="network"}': 0.012,
    '{step="guest"}': 3,
    '{step="total"}': 3.05,
  });
  expect(await named("wrenn_agent_guest_calls_total")).toEqual({
    '{outcome="ok"}': 1,
    '{outcome="unavailable"}': 1,
  });
});

test("only whoever has the token reads them, and nobody when there is none", async () => {
  const scrape = async (metricsToken: string | null, authorization?: string) => {
    const headers = authorization ? { authorization } : {};
    const request = new Request("http://localhost/metrics", { headers });
    return (await answerScrape(request, { metrics, metricsToken })).status;
  };

  expect([
    await scrape(TOKEN, `Bearer ${TOKEN}`),
    await scrape(TOKEN, "Bearer another token"),
    await scrape(TOKEN),
    await scrape(null, `Bearer ${TOKEN}`),
    await scrape(null),
  ]).toEqual([200, 401, 401, 404, 404]);
});
