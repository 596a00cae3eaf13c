// A journal that cannot be written, as on a full disk: what would begin is refused and changes nothing, what
// happens anyway is so, nobody hangs between two states, and the agent lives and writes it down afterwards.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import {
  codeOf,
  destroyAll,
  infoOf,
  resume,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

setDefaultTimeout(240_000);

let agent: AgentProcess;
let id: string;

beforeAll(async () => {
  agent = await AgentProcess.start();
  id = await agent.create();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

/** Somebody else writes to the journal until this is disposed. */
function holdJournal(): Disposable {
  const journal = new Database(join(agent.dir, "journal.db"));
  journal.run("BEGIN IMMEDIATE");
  return {
    [Symbol.dispose]: () => {
      journal.run("ROLLBACK");
      journal.close();
    },
  };
}

async function failedFlushes(): Promise<number> {
  return (await agent.log()).split('"flush.failed"').length - 1;
}

test("while it cannot be written nothing begins, and the agent lives", async () => {
  const other = agent.createRequest();
  {
    using _held = holdJournal();
    expect(await codeOf(agent.client.createSandbox(other))).toBe("Unavailable");
    expect(await codeOf(agent.client.pauseSandbox(agent.operation(id)))).toBe("Unavailable");
    expect(await agent.statuses()).toEqual({ [id]: "running" });
    expect(await agent.sh(id, "echo on")).toBe("on\n");
    process.kill((await agent.pids(id)).pid, "SIGKILL");
    await untilStatus(agent, id, "error");
    expect(await codeOf(resume(agent, id))).toBe("Unavailable");
    expect((await infoOf(agent, id))?.reason).toStartWith("its VMM ended");
    await waitFor("a flush", failedFlushes, { timeoutMs: GUEST_MS });
    expect(await agent.statuses()).toEqual({ [id]: "error" });
  }

  await waitFor("the journal to be told", async () => (await agent.leftovers()).rows, {
    holds: (rows) => rows.includes(`${id} error`),
    timeoutMs: GUEST_MS,
  });
  expect(await resume(agent, id)).toBe("disk");
  expect(await agent.sh(id, "echo on")).toBe("on\n");
});

// What a file on a full disk says to each write.
test("an agent whose log cannot be written lives, and does all that it did", async () => {
  await agent.kill();
  await agent.restart({ logPath: "/dev/full" });

  expect(await agent.sh(id, "echo on")).toBe("on\n");
  {
    using _held = holdJournal();
    expect(await codeOf(agent.client.pauseSandbox(agent.operation(id)))).toBe("Unavailable");
  }
  expect(await agent.sh(id, "echo on")).toBe("on\n");
  await agent.kill("SIGTERM");
  // A write that nobody has taken the failure of is one of the program, which systemd would start again.
  expect(await agent.exited()).toBe(0);
  await agent.restart();
});

test("a destroy removes what it can, and ends when it can be written down", async () => {
  {
    using _held = holdJournal();
    expect(await codeOf(agent.client.destroySandbox({ sandboxId: id }))).toBe("Internal");
    const { processes, files } = await agent.leftovers();
    expect([processes, files]).toEqual([[], []]);
  }

  await destroyAll(agent);

  expect(await agent.leftovers()).toEqual(NOTHING);
});
