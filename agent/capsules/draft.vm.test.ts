// A capsule that is forked while it writes stands still for what it wrote meanwhile only, and the fork has
// all of it. What an agent that is killed has saved by then is gone when the next one has started.

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { encodeId, newId } from "../../proto/ids.ts";
import { arm, codeOf, pauseDurably, resume, untilStatus } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";

setDefaultTimeout(300_000);

/** Pages that say which they are, and a table of what they must say: a page that is missed disagrees. */
const WRITER = `
import mmap, os, struct, time
PAGES = 2048
memory = mmap.mmap(-1, PAGES * 4096)
versions = [0] * PAGES
page = lambda i: struct.pack("<QQ", i, versions[i]) * 256
rounds = 0
while True:
    rounds += 1
    for i in range(rounds * 7, rounds * 7 + 16):
        i %= PAGES
        versions[i] += 1
        memory[i * 4096:(i + 1) * 4096] = page(i)
    if os.path.exists("/dev/shm/check"):
        os.unlink("/dev/shm/check")
        wrong = [i for i in range(PAGES) if versions[i] and memory[i * 4096:(i + 1) * 4096] != page(i)]
        with open("/dev/shm/new", "w") as file:
            file.write(f"{rounds} {len(wrong)}")
        os.rename("/dev/shm/new", "/dev/shm/result")
    time.sleep(0.001)
`;

const CHECK = `rm -f /dev/shm/result; touch /dev/shm/check
while [ ! -e /dev/shm/result ]; do sleep 0.05; done; cat /dev/shm/result`;

async function check(agent: AgentProcess, id: string): Promise<{ rounds: number; wrong: number }> {
  const [rounds = 0, wrong = -1] = (await agent.sh(id, CHECK)).split(" ").map(Number);
  return { rounds, wrong };
}

async function captures(agent: AgentProcess): Promise<unknown[]> {
  const lines = (await agent.log()).trimEnd().split("\n");
  const entries: { event: string }[] = lines.map((line) => JSON.parse(line));
  return entries.filter(({ event }) => event === "capsule.captured");
}

test("forks of a capsule that never stops writing have all that it wrote", async () => {
  await using agent = await AgentProcess.start();
  const id = await agent.create();
  const { client } = agent;
  const process = { sandboxId: id, cmd: "python3", args: ["-c", WRITER], tag: "writer" };
  await client.startBackground(process);
  await check(agent, id);
  // What was restored can be followed; what was booted is saved while it stands still.
  await pauseDurably(agent, id);
  await resume(agent, id);

  const rounds: number[] = [];
  for (let fork = 0; fork < 3; fork += 1) {
    const sandboxId = encodeId("capsule", newId("capsule"));
    const child = { sandboxId, operationId: crypto.randomUUID(), envdAccessToken: "f".repeat(64) };
    const request = { sandboxId: id, children: [child], timeoutSec: 600 };
    const { results } = await client.forkSandbox(request);
    expect(results).toMatchObject([{ errorCode: "" }]);
    for (const capsule of [sandboxId, id]) {
      const { rounds: reached, wrong } = await check(agent, capsule);
      expect([fork, capsule === id, wrong]).toEqual([fork, capsule === id, 0]);
      rounds.push(reached);
    }
    await client.destroySandbox({ sandboxId });
  }

  expect(rounds.every((reached) => reached > 0)).toBe(true);
  expect(await captures(agent)).toMatchObject([
    { is_drafted: true },
    { is_drafted: true },
    { is_drafted: true },
  ]);
  await arm(agent, "capture.after-draft:kill");
  const child = { sandboxId: encodeId("capsule", newId("capsule")) };
  const lost = { ...child, operationId: crypto.randomUUID(), envdAccessToken: "f".repeat(64) };
  const cut = codeOf(client.forkSandbox({ sandboxId: id, children: [lost], timeoutSec: 600 }));
  await agent.exited();
  expect(await cut).not.toBe("none");
  expect(await readdir(join(agent.dir, "snapshots", id))).toContain("draft.partial");
  await agent.restart();
  expect(await readdir(join(agent.dir, "snapshots", id))).not.toContain("draft.partial");
  await untilStatus(agent, id, "running");
  expect((await check(agent, id)).wrong).toBe(0);

  await client.destroySandbox({ sandboxId: id });
  expect(await agent.leftovers()).toEqual(NOTHING);
});
