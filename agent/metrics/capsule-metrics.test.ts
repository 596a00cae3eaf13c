import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Log } from "../log.ts";
import type { RunningVmm } from "./capsule-metrics.ts";
import { CapsuleMetrics } from "./capsule-metrics.ts";
import { MetricStore } from "./metric-store.ts";
import { readProcUnits } from "./process-usage.ts";
import { SentBytes } from "./sent-bytes.ts";

const { pageBytes, ticksPerSecond } = readProcUnits();
const DISK_BYTES = 4096;

/** Processes that a test describes, in a directory as /proc is one, and a clock that it moves. */
class Host implements AsyncDisposable {
  readonly procDir: string;
  readonly logged: string[] = [];
  metrics: CapsuleMetrics;
  running: RunningVmm[] = [];
  /** Capsules of the host that do not run. */
  resting: string[] = [];
  nowMs = 1_000_000;
  diskFailure: Error | null = null;

  constructor(procDir: string) {
    this.procDir = procDir;
    this.metrics = this.#open();
  }

  /** The agent ends, and another one takes over. */
  replaceAgent(): void {
    this.metrics[Symbol.dispose]();
    this.metrics = this.#open();
  }

  #open(): CapsuleMetrics {
    const log = new Log({ level: "debug", write: (line) => this.logged.push(line) });
    return new CapsuleMetrics({
      running: () => this.running,
      known: () => [...this.running.map(({ id }) => id), ...this.resting],
      store: new MetricStore(join(this.procDir, "metrics")),
      sent: new SentBytes({
        ...{ dir: join(this.procDir, "sent"), procDir: this.procDir },
        ...{ linksDir: join(this.procDir, "links"), log },
      }),
      disks: {
        allocatedBytes: async () => {
          if (this.diskFailure) throw this.diskFailure;
          return DISK_BYTES;
        },
      },
      log,
      now: () => new Date(this.nowMs),
      monotonicMs: () => this.nowMs,
      procDir: this.procDir,
    });
  }

  /** The process has used so much by now. Its name is what a hostile one would choose. */
  async describe(pid: number, used: { cpuSeconds: number; pages?: number; state?: string }) {
    const { cpuSeconds, pages = 1, state = "S" } = used;
    const userTicks = Math.floor(cpuSeconds * ticksPerSecond * 0.75);
    const systemTicks = Math.round(cpuSeconds * ticksPerSecond) - userTicks;
    const fields = [state, ...Array(10).fill("0"), userTicks, systemTicks, 0, 0, 0, 0, 0, 0];
    await mkdir(join(this.procDir, String(pid)), { recursive: true });
    await writeFile(
      join(this.procDir, String(pid), "stat"),
      `${pid} (qemu) R 1 (x)) ${[...fields, `77${pid}`, 0, pages, ...Array(28).fill("0")].join(" ")}\n`,
    );
  }

  async pass(afterMs = 500): Promise<void> {
    this.nowMs += afterMs;
    await this.metrics.sample();
  }

  cpuPercents(id: string): number[] {
    return this.metrics.within(id, "10m").map(({ cpuPercent }) => cpuPercent);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.metrics[Symbol.dispose]();
    await rm(this.procDir, { recursive: true });
  }
}

let host: Host;
beforeEach(async () => {
  host = new Host(await mkdtemp(join(tmpdir(), "wrenn-proc-")));
});
afterEach(() => host[Symbol.asyncDispose]());

const capsule = (id: string, pid: number, vcpus = 1): RunningVmm => ({
  id,
  vcpus,
  vmm: { pid, startTime: `77${pid}` },
  link: null,
});

test.each([
  { what: "an idle processor", vcpus: 1, usedSeconds: 0, afterMs: 500, percent: 0 },
  { what: "half of one processor", vcpus: 1, usedSeconds: 0.25, afterMs: 500, percent: 50 },
  { what: "one of two processors", vcpus: 2, usedSeconds: 0.5, afterMs: 500, percent: 50 },
  { what: "all of four processors", vcpus: 4, usedSeconds: 2, afterMs: 500, percent: 100 },
  { what: "a pass that came late", vcpus: 1, usedSeconds: 0.5, afterMs: 2000, percent: 25 },
  { what: "more than there is", vcpus: 1, usedSeconds: 0.8, afterMs: 500, percent: 100 },
])("$what is $percent %", async ({ vcpus, usedSeconds, afterMs, percent }) => {
  host.running = [capsule("cl-a", 7, vcpus)];
  await host.describe(7, { cpuSeconds: 90 });
  await host.pass();
  await host.describe(7, { cpuSeconds: 90 + usedSeconds });

  await host.pass(afterMs);

  expect(host.cpuPercents("cl-a")).toEqual([percent]);
});

test("a sample tells resident memory, allocated disk and when it was taken", async () => {
  host.running = [capsule("cl-a", 7)];
  await host.describe(7, { cpuSeconds: 0, pages: 300 });
  await host.pass();
  await host.pass();

  expect(host.metrics.within("cl-a", "5m")).toEqual([
    { atMs: host.nowMs, cpuPercent: 0, memoryBytes: 300 * pageBytes, diskBytes: DISK_BYTES },
  ]);
});

test("two passes at the same instant make no sample of no time", async () => {
  host.running = [capsule("cl-a", 7)];
  await host.describe(7, { cpuSeconds: 0 });
  await host.pass();
  await host.pass(0);

  expect(host.cpuPercents("cl-a")).toEqual([]);
});

test("a process that died, waits for its parent or gave its pid away is not sampled", async () => {
  host.running = [capsule("cl-a", 7), capsule("cl-b", 8), capsule("cl-c", 9)];
  await host.describe(8, { cpuSeconds: 1, state: "Z" });
  await host.describe(9, { cpuSeconds: 1 });
  host.running[2] = { ...capsule("cl-c", 9), vmm: { pid: 9, startTime: "12345" } };
  await host.pass();
  await host.pass();

  expect(["cl-a", "cl-b", "cl-c"].flatMap((id) => host.cpuPercents(id))).toEqual([]);
  expect(host.logged).toEqual([]);
});

test("a capsule that ended is forgotten, and one that got another process goes on", async () => {
  host.running = [capsule("cl-a", 7), capsule("cl-b", 8)];
  await host.describe(7, { cpuSeconds: 5 });
  await host.describe(8, { cpuSeconds: 5 });
  await host.pass();
  await host.pass();

  host.running = [capsule("cl-b", 9)];
  await host.describe(9, { cpuSeconds: 1 });
  await host.pass();
  await host.describe(9, { cpuSeconds: 1.25 });
  await host.pass();

  expect(host.cpuPercents("cl-a")).toEqual([]);
  expect(host.cpuPercents("cl-b")).toEqual([0, 50]);
});

test("a capsule at rest has what it used, and goes on with it; one that is gone has nothing", async () => {
  host.running = [capsule("cl-a", 7), capsule("cl-b", 8)];
  await host.describe(7, { cpuSeconds: 5 });
  await host.describe(8, { cpuSeconds: 5 });
  await host.pass();
  await host.describe(7, { cpuSeconds: 5.25 });
  await host.pass();

  host.running = [];
  host.resting = ["cl-a"];
  await host.pass();
  const atRest = host.cpuPercents("cl-a");
  host.replaceAgent();
  const afterwards = host.cpuPercents("cl-a");
  host.running = [capsule("cl-a", 9)];
  host.resting = [];
  await host.describe(9, { cpuSeconds: 0 });
  await host.pass();
  await host.pass();

  expect([atRest, afterwards, host.cpuPercents("cl-a")]).toEqual([[50], [50], [50, 0]]);
  expect(host.cpuPercents("cl-b")).toEqual([]);
  expect(await readdir(join(host.procDir, "metrics"))).toEqual(["cl-a"]);

  host.running = [];
  await host.pass();
  expect(host.cpuPercents("cl-a")).toEqual([]);
  expect(await readdir(join(host.procDir, "metrics"))).toEqual([]);
});

test("a capsule that runs on while the agent is replaced keeps its past", async () => {
  host.running = [capsule("cl-a", 7)];
  await host.describe(7, { cpuSeconds: 5 });
  await host.pass();
  await host.pass();
  host.replaceAgent();
  await host.describe(7, { cpuSeconds: 5.5 });
  await host.pass();
  await host.describe(7, { cpuSeconds: 5.75 });
  await host.pass();

  expect(host.cpuPercents("cl-a")).toEqual([0, 50]);
});

test("a saved history that is none is no history", async () => {
  await mkdir(join(host.procDir, "metrics"), { recursive: true });
  await writeFile(join(host.procDir, "metrics", "cl-a"), "nonsense");
  await writeFile(join(host.procDir, "metrics", "cl-b"), new Uint8Array(8 * 40).fill(255));
  host.resting = ["cl-a", "cl-b"];
  host.replaceAgent();

  expect(["cl-a", "cl-b"].flatMap((id) => host.cpuPercents(id))).toEqual([]);
});

test("the host's use is that of its capsules, and its CPU time never goes back", async () => {
  host.running = [capsule("cl-a", 7), capsule("cl-b", 8)];
  await host.describe(7, { cpuSeconds: 5, pages: 10 });
  await host.describe(8, { cpuSeconds: 5, pages: 20 });
  await host.pass();
  await host.describe(7, { cpuSeconds: 5.25, pages: 10 });
  await host.describe(8, { cpuSeconds: 5.25, pages: 20 });
  await host.pass();
  const both = host.metrics.total();
  host.running = [capsule("cl-b", 8)];
  await host.pass();

  expect(both).toEqual({
    cpuSeconds: 0.5,
    memoryBytes: 30 * pageBytes,
    diskBytes: 2 * DISK_BYTES,
  });
  expect(host.metrics.total()).toEqual({
    cpuSeconds: 0.5,
    memoryBytes: 20 * pageBytes,
    diskBytes: DISK_BYTES,
  });
});

test("a disk that cannot be read is told once and samples go on when it can", async () => {
  host.running = [capsule("cl-a", 7)];
  await host.describe(7, { cpuSeconds: 0 });
  host.diskFailure = new Error("the disk is on fire");
  for (let i = 0; i < 4; i++) await host.pass();
  host.diskFailure = null;
  await host.pass();

  expect(host.logged.length).toBe(1);
  expect(host.logged[0]).toContain("the disk is on fire");
  expect(host.cpuPercents("cl-a")).toEqual([0]);
});

test("a capsule that is destroyed during a pass is nothing to tell of", async () => {
  const leaving = capsule("cl-a", 7);
  host.running = [leaving];
  await host.describe(7, { cpuSeconds: 0 });
  await host.pass();
  host.diskFailure = Object.assign(new Error("no such file"), { code: "ENOENT" });

  const pass = host.pass();
  host.running = [];
  await pass;

  expect(host.logged).toEqual([]);
});
