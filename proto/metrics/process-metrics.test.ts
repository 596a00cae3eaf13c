import { expect, test } from "bun:test";
import { Registry } from "prom-client";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { ProcessMetrics } from "./process-metrics.ts";

async function read(registry: Registry): Promise<Map<string, number>> {
  const lines = (await registry.metrics()).split("\n").filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ""), Number(line.split(" ").at(-1))]));
}

test("a program tells what it is and what it uses", async () => {
  const registry = new Registry();
  using _metrics = new ProcessMetrics(registry, { name: "agent", version: "1.2.3" });

  const values = await read(registry);

  expect(values.get(`wrenn_agent_info{version="1.2.3",bun="${Bun.version}"}`)).toBe(1);
  expect(values.get("process_resident_memory_bytes")).toBeGreaterThan(10e6);
  expect(values.get("process_cpu_seconds_total")).toBeGreaterThan(0);
  expect(values.get("process_open_fds")).toBeGreaterThan(2);
  expect(values.get("process_start_time_seconds")).toBeLessThan(Date.now() / 1000);
  expect([...values.values()].every(Number.isFinite)).toBe(true);
});

test("an event loop that was held up is seen once", async () => {
  const registry = new Registry();
  using _metrics = new ProcessMetrics(registry, { name: "agent", version: "1.2.3" });
  const latest = async () =>
    (await read(registry)).get('wrenn_event_loop_lag_seconds{quantile="1"}');
  await Bun.sleep(120);
  await latest();

  const until = performance.now() + 400;
  while (performance.now() < until);
  await Bun.sleep(120);

  expect(await latest()).toBeGreaterThan(0.2);
  // The machine may hold it up once more, but not again and again.
  await waitFor("a loop that is held up no more", latest, {
    holds: (seconds) => seconds !== undefined && seconds < 0.2,
    everyMs: 120,
  });
});
