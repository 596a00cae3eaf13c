// The journal fails at the n-th write of an operation, and goes on failing: whatever was written down before, the
// agent lives, nothing that was answered as done is missing, and once it works again nobody stays between two states,
// nothing is left and no disk is an older one. Writes are counted by the database itself, so that one that is added
// later is among them. `make soak` walks over all of them.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { encodeId, newId } from "../../proto/ids.ts";
import {
  codeOf,
  destroyAll,
  infoOf,
  pauseDurably,
  resume,
  untilDurable,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

setDefaultTimeout(600_000);

const isSoak = Boolean(process.env.WRENN_SOAK);
const TABLES = ["capsules", "outcomes"] as const;
const CHANGES = ["INSERT", "UPDATE", "DELETE"] as const;
/** More writes than any operation makes. */
const WRITES_MAX = 20;

type From = "nothing" | "running" | "paused" | "lost";

interface Walked {
  readonly from: From;
  /** What the journal says once it was answered as done; null: that may be written down later. */
  readonly done: string | null;
  /** How many writes succeed, where not all of them are tried. */
  readonly some: readonly number[];
  run(id: string): Promise<unknown>;
}

const OPERATIONS: Readonly<Record<string, Walked>> = {
  create: {
    from: "nothing",
    done: "running",
    some: [],
    run: (id) => agent.client.createSandbox(agent.createRequest(id)),
  },
  pause: {
    from: "running",
    done: "paused",
    some: [3],
    run: (id) => agent.client.pauseSandbox(agent.operation(id)),
  },
  resume: { from: "paused", done: "running", some: [3], run: (id) => resume(agent, id) },
  "a boot of the disk": {
    from: "paused",
    done: "running",
    some: [],
    run: (id) => resume(agent, id, "disk"),
  },
  "a resume from a memory that is older than the disk": {
    from: "lost",
    done: "running",
    some: [3],
    run: (id) => resume(agent, id, "memory"),
  },
  snapshot: {
    from: "running",
    done: null,
    some: [],
    run: (id) => {
      const names = { teamId: PLATFORM_TEAM, templateId: crypto.randomUUID() };
      return agent.client.createSnapshot({ ...agent.operation(id), ...names });
    },
  },
  fork: {
    from: "running",
    done: null,
    some: [],
    run: (id) => {
      const child = { ...agent.operation(newCapsuleId()), envdAccessToken: "1".repeat(64) };
      return agent.client.forkSandbox({ sandboxId: id, children: [child], timeoutSec: 60 });
    },
  },
  destroy: {
    from: "running",
    done: "",
    some: [1],
    run: (id) => agent.client.destroySandbox({ sandboxId: id }),
  },
};

let agent: AgentProcess;
/** Of the capsule that is there: what is on its disk. */
let word = "";
/** What is on the disk that the memory of one in error belongs to. */
let wordOfMemory = "";

beforeAll(async () => {
  agent = await AgentProcess.start();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

function newCapsuleId(): string {
  return encodeId("capsule", newId("capsule"));
}

/** Lets so many writes pass, and none after them until it is disposed. Notes of activity are not counted. */
function allowWrites(count: number): Disposable & { left(): number } {
  const db = new Database(join(agent.dir, "journal.db"));
  db.run("PRAGMA busy_timeout = 5000");
  db.run("CREATE TABLE allowed (writes INTEGER)");
  db.run(`INSERT INTO allowed VALUES (${count})`);
  const names = TABLES.flatMap((table) =>
    CHANGES.map((change) => {
      const isNote = table === "capsules" && change === "UPDATE";
      const when = isNote ? "WHEN NEW.last_active_at = OLD.last_active_at" : "";
      const name = `allow_${table}_${change}`;
      db.run(`CREATE TRIGGER ${name} BEFORE ${change} ON ${table} ${when} BEGIN
        SELECT RAISE(ABORT, 'no write is left') FROM allowed WHERE writes = 0;
        UPDATE allowed SET writes = writes - 1;
      END`);
      return name;
    }),
  );
  return {
    left: () => db.query<{ writes: number }, []>("SELECT writes FROM allowed").get()?.writes ?? 0,
    [Symbol.dispose]: () => {
      for (const name of names) db.run(`DROP TRIGGER ${name}`);
      db.run("DROP TABLE allowed");
      db.close();
    },
  };
}

async function countLogged(event: string): Promise<number> {
  return (await agent.log()).split(`"${event}"`).length - 1;
}

async function untilLogged(event: string, before: number): Promise<void> {
  await waitFor(event, () => countLogged(event), {
    holds: (count) => count > before,
    timeoutMs: GUEST_MS,
  });
}

async function writeWord(id: string): Promise<void> {
  word = `${crypto.randomUUID()}\n`;
  await agent.sh(id, `echo ${word.trim()} > /root/word; sync`);
}

/** The capsule that is there, or a new one, in that state; whatever its memory was, its disk is the newest. */
async function prepare(from: From): Promise<string> {
  const [[id, status] = []] = Object.entries(await agent.statuses());
  if (from === "nothing" || id === undefined) {
    await destroyAll(agent);
    if (from === "nothing") return newCapsuleId();
    await writeWord(await agent.create());
    return await prepare(from);
  }
  if (status !== "running") await resume(agent, id);
  expect(await agent.sh(id, "cat /root/word")).toBe(word);
  if (from !== "running") await pauseDurably(agent, id);
  if (from !== "lost") return id;
  await resume(agent, id);
  wordOfMemory = word;
  await writeWord(id);
  process.kill((await agent.pids(id)).pid, "SIGKILL");
  await untilStatus(agent, id, "error");
  return id;
}

/** What goes on behind the answer has come to its end, or to a write that failed. */
async function untilQuiet(id: string, failuresBefore: number): Promise<void> {
  if ((await infoOf(agent, id))?.status !== "paused") return;
  const isQuiet = async () => {
    const info = await infoOf(agent, id);
    const isSealed = Boolean(info?.durableAtUnix) && !info?.hostIp;
    return isSealed || (await countLogged("capsule.seal-failed")) > failuresBefore;
  };
  await waitFor(`the sealing of ${id}`, isQuiet, { timeoutMs: GUEST_MS });
}

async function rowOf(id: string): Promise<string> {
  const row = (await agent.leftovers()).rows.find((line) => line.startsWith(id));
  return row?.slice(id.length + 1) ?? "";
}

/** What is only to be removed yet can be, journal and host agree, and nobody holds what belongs to nobody. */
async function expectSettled(id: string): Promise<void> {
  const others = Object.keys(await agent.statuses()).filter((other) => other !== id);
  for (const sandboxId of others) await agent.client.destroySandbox({ sandboxId });
  const isAgreed = ([status, row]: readonly [string, string]) =>
    ["", "running", "paused", "error"].includes(status) &&
    (row === status || (status === "error" && row === "stopping"));
  const agreed = await waitFor(
    `the state of ${id} to be written down`,
    async () => [(await agent.statuses())[id] ?? "", await rowOf(id)] as const,
    { holds: isAgreed, timeoutMs: GUEST_MS },
  );
  if (agreed[1] === "stopping") await agent.client.destroySandbox({ sandboxId: id });
  const status = (await agent.statuses())[id] ?? "";
  if (status === "paused") await untilDurable(agent, id);

  const { claims, netns, cgroups, links, processes, files, rows } = await agent.leftovers();
  const isUp = status === "running" ? 1 : 0;
  // One in error has what it had before its VMM ended, until it is resumed or destroyed.
  const held = status === "error" ? claims.length : isUp;
  const counts = [claims, netns, links].map((found) => found.length);
  expect(counts).toEqual([held, held, held]);
  expect(Math.sign(processes.length)).toBe(isUp);
  if (status !== "error") expect(Math.sign(cgroups.length)).toBe(isUp);
  if (status !== "") return;
  expect(rows).toEqual([]);
  // But for the snapshots that were asked for.
  expect(files.filter((file) => !file.startsWith("images/"))).toEqual([]);
}

/** Answers whether there was a write that could fail. */
async function failAt(count: number, operation: Walked): Promise<boolean> {
  const id = await prepare(operation.from);
  const failuresBefore = await countLogged("capsule.seal-failed");
  let left: number;
  {
    using allowed = allowWrites(count);
    const code = await codeOf(operation.run(id));
    if (code === "none" && operation.done !== null) expect(await rowOf(id)).toBe(operation.done);
    if (code === "none" && operation.from === "lost") word = wordOfMemory;
    await untilQuiet(id, failuresBefore);
    left = allowed.left();
    if (left > 0) expect(code).toBe("none");
  }
  await expectSettled(id);
  // It goes on, with the disk that it had.
  if (operation.from === "nothing") await destroyAll(agent);
  else if (id in (await agent.statuses())) await prepare("running");
  return left === 0;
}

const CASES = Object.keys(OPERATIONS).filter(
  (name) => isSoak || OPERATIONS[name]?.some.length !== 0,
);

test.each(CASES)("%s, with a journal that fails at a write of it", async (name) => {
  const operation = OPERATIONS[name];
  if (operation === undefined) throw new Error("unreachable");
  if (!isSoak) {
    for (const count of operation.some) expect(await failAt(count, operation)).toBe(true);
    return;
  }
  for (let count = 0; await failAt(count, operation); count++) {
    expect(count).toBeLessThan(WRITES_MAX);
  }
});

test("a pause at the end of the timeout that cannot be written down is tried again", async () => {
  const id = await prepare("paused");
  const failuresBefore = await countLogged("capsule.expiry-failed");
  await agent.client.resumeSandbox({ ...agent.resumeRequest(id), timeoutSec: 1 });
  {
    using _allowed = allowWrites(0);
    await untilLogged("capsule.expiry-failed", failuresBefore);
    expect(await agent.statuses()).toEqual({ [id]: "running" });
  }

  // The next try is half a minute away.
  if (isSoak) await untilStatus(agent, id, "paused");
  await expectSettled(id);
});

test("an agent that finds a journal that fails takes up what there is, and writes it down later", async () => {
  const id = await prepare("running");
  const { pid } = await agent.pids(id);
  await agent.kill();
  {
    using _allowed = allowWrites(0);
    await agent.restart();
    expect(await agent.statuses()).toEqual({ [id]: "running" });
    expect(await agent.sh(id, "cat /root/word")).toBe(word);
    await agent.kill();
    process.kill(pid, "SIGKILL");
    await agent.restart();
    expect(await agent.statuses()).toEqual({ [id]: "error" });
  }

  await expectSettled(id);
  expect(await resume(agent, id)).toBe("disk");
  expect(await agent.sh(id, "cat /root/word")).toBe(word);
});

test("what is made behind a create is removed when the journal works again", async () => {
  await destroyAll(agent);
  await agent.kill("SIGTERM");
  await agent.restart({ warm: "on" });
  const before = await countLogged("warm.stuck");
  {
    // Three of the create, two of the guest that is booted behind it: its removal is the next.
    using _allowed = allowWrites(5);
    await agent.create();
    await untilLogged("warm.stuck", before);
  }

  await waitFor("the capsule alone", async () => (await agent.leftovers()).claims, {
    holds: (claims) => claims.length === 1,
    timeoutMs: GUEST_MS,
  });
  await destroyAll(agent);
  await expectSettled("");
});
