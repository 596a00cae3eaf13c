import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, hosts } from "../db/tables.ts";
import { settleOperations } from "./settle.ts";

const platform = await forThisFile(TestPlatform.start());
let source: string;

afterEach(async () => {
  await platform.database.db.delete(capsules);
  platform.agent.capsules.clear();
  platform.agent.bootMs = 0;
});

async function fork(body?: unknown) {
  source = await platform.create({ vcpus: 2, memory_mb: 1024, timeout_sec: 60 });
  await platform.call("POST", `/v1/capsules/${source}/files/mkdir`, { body: { path: "/kept" } });
  return await platform.call("POST", `/v1/capsules/${source}/fork`, body ? { body } : {});
}

interface Entry {
  readonly capsule?: { readonly id: string; readonly status: string };
  readonly error?: { readonly code: string; readonly message: string };
}

const entries = (body: object) => Object.values(body) as Entry[];

test("forks run with the source's size and files, which goes on", async () => {
  const answer = await fork({ count: 2 });

  const forks = entries(answer.body);
  expect([answer.status, forks.length]).toEqual([201, 2]);
  for (const { capsule } of forks) {
    expect(capsule).toMatchObject({
      status: "running",
      template: "minimal-debian",
      vcpus: 2,
      memory_mb: 1024,
      timeout_sec: 60,
    });
    const path = `/v1/capsules/${capsule?.id}/files/list`;
    const files = await platform.call("POST", path, { body: { path: "/" } });
    expect(JSON.stringify(files.body)).toContain("/kept");
  }
  expect(await platform.states()).toEqual({ running: 3 });
});

test("without a body there is one fork, and a timeout of its own may be asked for", async () => {
  expect(entries((await fork()).body)).toHaveLength(1);

  const [own] = entries((await fork({ timeout_sec: 7 })).body);

  expect(own?.capsule).toMatchObject({ timeout_sec: 7 });
});

test.each([0, 101, 1.5])("%p forks are the client's mistake", async (count) => {
  const answer = await fork({ count });

  expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_request"]);
});

test("only a running capsule is forked", async () => {
  source = await platform.create();
  await platform.call("POST", `/v1/capsules/${source}/pause`);

  const answer = await platform.call("POST", `/v1/capsules/${source}/fork`);

  expect([answer.status, answer.body.error.code]).toEqual([409, "invalid_state"]);
});

test("each fork has its own outcome, and nothing is left of one that failed", async () => {
  platform.agent.faultBefore("createSandbox", () => {});
  platform.agent.faultBefore("createSandbox", () => {
    throw new ConnectError("no slot is free", Code.ResourceExhausted);
  });

  const forks = entries((await fork({ count: 3 })).body);

  const failed = forks.filter(({ error }) => error !== undefined);
  expect(
    forks.every((entry) => (entry.capsule === undefined) !== (entry.error === undefined)),
  ).toBe(true);
  expect(failed.map(({ error }) => error?.code)).toEqual(["no_hosts_available"]);
  expect(await platform.states()).toEqual({ running: 3, error: 1 });
  expect(platform.agent.capsules.size).toBe(3);
});

test("a host that has room for some gets some, one that has room for none refuses", async () => {
  const [host] = await platform.database.db.select().from(hosts);
  await platform.database.db.update(hosts).set({ memoryMb: 4200 });

  const some = await fork({ count: 5 });
  const none = await platform.call("POST", `/v1/capsules/${source}/fork`);
  await platform.database.db.update(hosts).set({ memoryMb: host?.memoryMb ?? 0 });

  expect(entries(some.body).map(({ error }) => error?.code ?? "runs")).toEqual([
    "runs",
    "runs",
    "no_hosts_available",
    "no_hosts_available",
    "no_hosts_available",
  ]);
  expect([none.status, none.body.error.code]).toEqual([503, "no_hosts_available"]);
});

test("a fork that the host refuses as a whole leaves nothing", async () => {
  platform.agent.faultBefore("forkSandbox", () => {
    throw new ConnectError("busy", Code.Unavailable);
  });

  const answer = await fork({ count: 2 });

  expect([answer.status, answer.body.error.code]).toEqual([503, "host_unavailable"]);
  expect(await platform.states()).toEqual({ running: 1, error: 2 });
  expect(platform.agent.capsules.size).toBe(1);
});

test("forks whose control plane is gone run if the host has them", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultAfter("forkSandbox", () => hold.promise);
  const forking = fork({ count: 2 });
  await waitFor("three capsules on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 3,
  });
  await waitFor(
    "all capsules to run",
    () => [...platform.agent.capsules.values()].map(({ status }) => status),
    { holds: (all) => all.every((status) => status === "running") },
  );
  await platform.database.db.update(capsules).set({ stateDeadline: new Date() });

  expect(await settleOperations(platform.controlPlane.deps)).toEqual({ claimed: 2, settled: 2 });
  hold.resolve();

  expect(entries((await forking).body).every(({ capsule }) => capsule?.status === "running")).toBe(
    true,
  );
  expect(await platform.states()).toEqual({ running: 3 });
});
