// Every program of the platform is killed at several points; afterwards capsules are whole or gone,
// and nothing is left behind.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startAgent, startControlPlane } from "../../scripts/dev/programs.ts";
import { startPostgres } from "../../scripts/dev/services.ts";
import { agentClient, vmmPid } from "../harness/agent-client.ts";
import { apiError, type Client } from "../harness/client.ts";
import { agentTag, type KernelObjects, kernelObjects } from "../harness/leaks.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { quickestMs } from "../harness/quickest.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";

const TEST_TIMEOUT_MS = 240_000;
/** From when a restarted agent answers. */
const BACK_MS_MAX = 2_000;
/** Milliseconds into a create at which a program is killed: before, during and after the boot. */
const KILL_AFTER_MS = process.env.WRENN_SOAK
  ? [0, 20, 50, 100, 200, 400, 800, 1_200, 1_600, 2_000, 2_400, 3_000, 4_000]
  : [30, 300, 1_500];
const SETTLED = ["running", "paused", "error", "stopped"];

let client: Client;
let before: KernelObjects;

beforeAll(async () => {
  client = await adminClient();
  before = await settledObjects();
}, TEST_TIMEOUT_MS);

afterAll(async () => {
  for (const capsule of await client.list()) await client.destroy(capsule.id);
}, TEST_TIMEOUT_MS);

describe("agent", () => {
  test(
    "killed and restarted, it has its capsule back within two seconds",
    async () => {
      const capsule = await client.create({ memory_mb: 256 });
      await client.sh(capsule.id, "echo kept > /home/wrenn-user/kept; sleep 600 &");

      const script = "cat /home/wrenn-user/kept; pgrep -c sleep";
      const quickest = await quickestMs(BACK_MS_MAX, async () => {
        await kill("agent");
        await restartAgent();
        const startedAtMs = performance.now();
        await waitFor(
          "exec after the restart",
          () => client.sh(capsule.id, script).then(({ stdout }) => stdout, String),
          { holds: (stdout) => stdout === "kept\n1\n", timeoutMs: GUEST_MS },
        );
        return performance.now() - startedAtMs;
      });

      expect(quickest).toBeLessThan(BACK_MS_MAX);
      await client.destroy(capsule.id);
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );

  test.each(KILL_AFTER_MS)(
    "killed %p ms into a create, it leaves a whole capsule or none",
    async (ms) => {
      const creating = client.create({ memory_mb: 256 }).catch((error: unknown) => error);
      await Bun.sleep(ms);
      await kill("agent");
      await restartAgent();
      await creating;

      await everyCapsuleSettles();
      await destroyAll();
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "killed during a destroy, the capsule is gone after its restart",
    async () => {
      const capsule = await client.create({ memory_mb: 256 });

      const destroying = client.destroy(capsule.id).catch((error: unknown) => error);
      await Bun.sleep(20);
      await kill("agent");
      await restartAgent();
      await destroying;

      await waitFor("the capsule to settle", () => client.get(capsule.id), {
        holds: (c) => c.status === "stopped",
        timeoutMs: GUEST_MS,
      });
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );
});

describe("control plane", () => {
  test.each(KILL_AFTER_MS)(
    "killed %p ms into a create, the row settles after its restart",
    async (ms) => {
      const creating = client.create({ memory_mb: 256 }).catch((error: unknown) => error);
      await Bun.sleep(ms);
      await kill("cp");
      await startControlPlane(await platform());
      await creating;

      await everyCapsuleSettles();
      await destroyAll();
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "killed and restarted, running capsules go on",
    async () => {
      const capsule = await client.create({ memory_mb: 256 });

      await kill("cp");
      await startControlPlane(await platform());

      expect((await client.sh(capsule.id, "echo alive")).stdout).toBe("alive\n");
      await client.destroy(capsule.id);
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );
});

describe("VMM", () => {
  test(
    "killed, its capsule rests with its disk, work on it is refused, and a destroy leaves nothing",
    async () => {
      const capsule = await client.create({ memory_mb: 256 });

      process.kill(await vmmPid(capsule), "SIGKILL");

      const error = await waitFor(
        "the end of exec",
        () => apiError(client.sh(capsule.id, "true", { timeout_sec: 5 })),
        { holds: (e) => e.status === 409, timeoutMs: 60_000 },
      );
      expect(error.code).toBe("invalid_state");
      await waitFor("the capsule to settle", () => client.get(capsule.id), {
        holds: (c) => c.status === "paused",
        timeoutMs: 60_000,
      });
      await client.destroy(capsule.id);
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );
});

describe("PostgreSQL", () => {
  test(
    "killed and restarted, the control plane answers again and capsules are there",
    async () => {
      const capsule = await client.create({ memory_mb: 256 });
      const { processes, dir, ports, databaseUrl } = await platform();

      await kill("postgres");
      expect((await apiError(client.get(capsule.id))).status).toBeGreaterThanOrEqual(500);
      await startPostgres({
        dir: dir.path,
        port: ports.postgres,
        password: new URL(databaseUrl).password,
        processes,
        durable: true,
      });

      await waitFor(
        "the status",
        async () => (await client.fetch(`/v1/capsules/${capsule.id}`)).status,
        { holds: (status) => status === 200, timeoutMs: 60_000 },
      );
      expect((await client.sh(capsule.id, "echo alive")).stdout).toBe("alive\n");
      await client.destroy(capsule.id);
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "killed during a create, the row settles once it is back",
    async () => {
      const { processes, dir, ports, databaseUrl } = await platform();
      const creating = client.create({ memory_mb: 256 }).catch((error: unknown) => error);
      await Bun.sleep(500);

      await kill("postgres");
      await creating;
      await startPostgres({
        dir: dir.path,
        port: ports.postgres,
        password: new URL(databaseUrl).password,
        processes,
        durable: true,
      });

      await everyCapsuleSettles();
      await destroyAll();
      await expectNothingLeft();
    },
    TEST_TIMEOUT_MS,
  );
});

async function kill(name: string): Promise<void> {
  const { processes } = await platform();
  const record = await processes.running(name);
  if (!record) throw new Error(`${name} does not run`);
  process.kill(record.pid, "SIGKILL");
  await processes.ended(record, 10_000);
}

async function restartAgent(): Promise<void> {
  await startAgent(await platform(), () => Promise.reject(new Error("it is registered already")));
}

/** No capsule stays in a state between two others, whatever was killed. */
async function everyCapsuleSettles(): Promise<void> {
  await waitFor(
    "every capsule to settle",
    () => client.list().catch(() => [{ status: "no answer" }]),
    { holds: (capsules) => capsules.every((c) => SETTLED.includes(c.status)), timeoutMs: GUEST_MS },
  );
}

async function destroyAll(): Promise<void> {
  for (const capsule of await client.list()) {
    await waitFor(
      `destroy ${capsule.id}`,
      () => client.destroy(capsule.id).then(() => "", String),
      { holds: (error) => error === "", timeoutMs: 60_000 },
    );
  }
}

/** Kernel objects, processes, files and rows are those from before the test. */
async function expectNothingLeft(): Promise<void> {
  const agent = await agentClient();
  await waitFor(
    "capsules on the host",
    async () => (await agent.listSandboxes({})).sandboxes.map((s) => s.sandboxId),
    { holds: (ids) => ids.length === 0, timeoutMs: GUEST_MS },
  );
  const after = await settledObjects();
  const { netns, links, slotClaims, ...named } = after;
  const { netns: netnsBefore, links: linksBefore, slotClaims: slotClaimsBefore, ...rest } = before;
  expect(named).toEqual(rest);
  // Slots of the pool have other numbers after each capsule; their count is what must not grow.
  expect([netns.length, links.length, slotClaims.length]).toEqual([
    netnsBefore.length,
    linksBefore.length,
    slotClaimsBefore.length,
  ]);
  expect(await client.list()).toEqual([]);
}

/**
 * The objects once no guest of the agent's own boots for a warm snapshot, and the pool of network slots is full
 * again: two equal counts a second apart.
 */
async function settledObjects(): Promise<KernelObjects> {
  const { dir } = await platform();
  const tag = await agentTag(dir.agentDir);
  let last: KernelObjects | null = null;
  return await waitFor("objects that stay", () => kernelObjects(dir.agentDir, tag), {
    holds: (now) => {
      const isSame = Bun.deepEquals(now, last);
      last = now;
      return isSame && now.rows.length === 0;
    },
    timeoutMs: GUEST_MS,
    everyMs: 1_000,
  });
}
