// PostgreSQL of a platform, from the states that a crash can leave it in.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { freePort } from "./ports.ts";
import { Processes } from "./processes.ts";
import { type ServiceOptions, startPostgres } from "./services.ts";

const TEST_TIMEOUT_MS = 60_000;

let dir: string;
let processes: Processes;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-services-"));
  await chmod(dir, 0o711);
  processes = new Processes(dir);
});

afterEach(async () => {
  await processes.stop("postgres", { signal: "SIGINT", graceMs: 20_000 });
  await rm(dir, { recursive: true });
});

/** Starts PostgreSQL in a process of its own. */
function startElsewhere(options: Omit<ServiceOptions, "processes">) {
  const code = `
    const { startPostgres } = await import(${JSON.stringify(join(import.meta.dirname, "services.ts"))});
    const { Processes } = await import(${JSON.stringify(join(import.meta.dirname, "processes.ts"))});
    await startPostgres({ ...${JSON.stringify(options)}, processes: new Processes(${JSON.stringify(dir)}) });
  `;
  return Bun.spawn([process.execPath, "-e", code], { stdio: ["ignore", "ignore", "ignore"] });
}

test(
  "a start that was killed while the cluster was made is no hindrance to the next one",
  async () => {
    const options = { dir, port: await freePort(), password: "secret", durable: false };
    const killed = startElsewhere(options);
    await waitFor("the first file of a cluster", () => readdir(dir, { recursive: true }), {
      holds: (paths) => paths.some((path) => path.endsWith("PG_VERSION")),
      timeoutMs: 20_000,
    });
    killed.kill("SIGKILL");
    await killed.exited;

    const { started } = await startPostgres({ ...options, processes });

    expect(started).toBe(true);
  },
  TEST_TIMEOUT_MS,
);
