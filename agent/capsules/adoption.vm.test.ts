// A capsule and its agent end independently: what one learns of the other's end, and what is left.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { encodeUuid } from "../../proto/ids.ts";
import { arm, codeOf, untilStatus } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { quickestMs } from "../../tests/harness/quickest.ts";

const BROKEN_TEMPLATE = "00000000-0000-0000-0000-0000000003e7";
/**
 * How soon after its restart an agent must run commands in the capsules that outlived it: two seconds are the aim,
 * which a machine with others beside it may take three times.
 */
const ADOPTION_MS = 6_000;
/** Half of the minute after which a frozen guest runs on by itself. */
const THAW_MS = 30_000;

setDefaultTimeout(240_000);

let agent: AgentProcess;

beforeAll(async () => {
  agent = await AgentProcess.start();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

describe("the agent ends", () => {
  test.each(["SIGKILL", "SIGTERM"] as const)(
    "by %s, and its capsule runs commands again soon after the restart",
    async (signal) => {
      const id = await agent.create();
      await agent.client.startBackground({
        sandboxId: id,
        cmd: "sleep",
        args: ["600"],
        tag: "job",
      });
      const before = await agent.client.listSandboxes({});
      const pids = await agent.pids(id);

      const quickest = await quickestMs(ADOPTION_MS, async () => {
        await agent.kill(signal);
        const startedAtMs = performance.now();
        await agent.restart();
        expect(await agent.sh(id, "echo again")).toBe("again\n");
        return performance.now() - startedAtMs;
      });

      expect(quickest).toBeLessThan(ADOPTION_MS);
      expect(await agent.pids(id)).toEqual(pids);
      expect((await agent.client.listProcesses({ sandboxId: id })).processes).toMatchObject([
        { tag: "job" },
      ]);
      const { sandboxes } = await agent.client.listSandboxes({});
      expect(sandboxes).toMatchObject([
        {
          operationId: before.sandboxes[0]?.operationId ?? "",
          createdAtUnix: before.sandboxes[0]?.createdAtUnix ?? 0n,
          metadata: before.sandboxes[0]?.metadata ?? {},
        },
      ]);
      await agent.client.destroySandbox({ sandboxId: id });
      expect(await agent.leftovers()).toEqual(NOTHING);
    },
  );

  // Nothing is written down before its guest has stopped.
  test("with a guest that it froze, which does not wait until that ends by itself", async () => {
    const id = await agent.create();
    await agent.sh(id, "true");
    await arm(agent, "pause.after-freeze:kill");
    const code = codeOf(agent.client.pauseSandbox(agent.operation(id)));
    await agent.exited();
    await code;
    await agent.restart();
    const startedAtMs = performance.now();

    expect(await agent.sh(id, "echo again")).toBe("again\n");

    expect(performance.now() - startedAtMs).toBeLessThan(THAW_MS);
    await agent.client.destroySandbox({ sandboxId: id });
  });

  test("a second agent on its directory refuses to start", async () => {
    const second = Bun.spawn([process.execPath, "agent/main.ts", "--address", "127.0.0.1:1"], {
      env: { ...process.env, WRENN_DIR: agent.dir, WRENN_CP_URL: "http://127.0.0.1:9" },
      stdio: ["ignore", "ignore", "pipe"],
    });

    expect(await second.exited).toBe(1);
    expect(await new Response(second.stderr).text()).toContain("another agent runs on");
  });
});

describe("the capsule ends", () => {
  test.each(["pid", "keeperPid"] as const)(
    "by the death of its %s: the agent says so, refuses work, and removes it on request",
    async (process_) => {
      const id = await agent.create();
      process.kill((await agent.pids(id))[process_], "SIGKILL");
      await untilStatus(agent, id, "error");

      const { sandboxes } = await agent.client.listSandboxes({});
      expect(sandboxes[0]?.reason).toStartWith("its VMM ended");
      expect(await codeOf(agent.sh(id, "true"))).toBe("FailedPrecondition");
      await agent.client.destroySandbox({ sandboxId: id });
      expect(await agent.leftovers()).toEqual(NOTHING);
    },
  );

  test("while no agent runs: the next one reports it until it is destroyed", async () => {
    const id = await agent.create();
    const { pid } = await agent.pids(id);
    await agent.kill();
    process.kill(pid, "SIGKILL");
    await agent.restart();

    expect(await agent.statuses()).toEqual({ [id]: "error" });
    await agent.kill();
    await agent.restart();
    expect(await agent.statuses()).toEqual({ [id]: "error" });
    await agent.client.destroySandbox({ sandboxId: id });
    expect(await agent.leftovers()).toEqual(NOTHING);
  });
});

describe("a guest that does not do its part", () => {
  test("with an image that does not boot, the create fails as soon as the VMM ends", async () => {
    const dir = join(
      agent.dir,
      "images/teams",
      encodeUuid(PLATFORM_TEAM),
      encodeUuid(BROKEN_TEMPLATE),
    );
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, "rootfs.ext4"), "");
    await truncate(join(dir, "rootfs.ext4"), 16 * 1024 * 1024);
    const request = { ...agent.createRequest(), templateId: BROKEN_TEMPLATE };

    expect(await codeOf(agent.client.createSandbox(request))).toBe("Unavailable");

    expect(await agent.leftovers()).toEqual(NOTHING);
    // The console's last words are for the operator.
    expect(await agent.log()).toContain("Kernel panic");
  });

  test("a stopped envd makes its own calls fail, and nobody else's", async () => {
    const [id, other] = await Promise.all([agent.create(), agent.create()]);
    const stop = "kill -STOP $(pidof envd ld-linux-x86-64.so.2)";
    const command = { sandboxId: id, cmd: "/bin/sh", args: ["-c", stop], timeoutSec: 2 };

    expect(await codeOf(agent.client.exec(command))).not.toBe("Internal");
    const [code, output] = await Promise.all([
      codeOf(agent.client.listProcesses({ sandboxId: id })),
      agent.sh(other, "echo fine"),
    ]);

    expect([code, output]).toEqual(["Unavailable", "fine\n"]);
    await agent.client.destroySandbox({ sandboxId: id });
    await agent.client.destroySandbox({ sandboxId: other });
    expect(await agent.leftovers()).toEqual(NOTHING);
  });
});

test("terminate ends the agent and leaves nothing of it on the machine", async () => {
  await agent.create();
  const tag = (await Bun.file(join(agent.dir, "tag")).text()).trim();

  await agent.client.terminate({});

  expect(await agent.exited()).toBe(0);
  expect(await agent.leftovers()).toEqual(NOTHING);
  const tables = Bun.spawnSync(["nft", "list", "tables"]).stdout.toString();
  expect(tables).not.toContain(`wrenn_${tag}`);
  expect(await Bun.file("/proc/self/mounts").text()).not.toContain(agent.dir);
  expect(await codeOf(agent.client.listSandboxes({}))).not.toBe("none");
});
