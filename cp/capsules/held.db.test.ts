// Answers that are held until the work is done, but at most as long as the client waits.

import { afterEach, expect, test } from "bun:test";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform, toAnswer } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules } from "../db/tables.ts";

const platform = await forThisFile(TestPlatform.start());

afterEach(async () => {
  await platform.database.db.delete(capsules);
  platform.agent.capsules.clear();
});

async function ask(method: string, path: string, { prefer = "respond-async", key = "" } = {}) {
  const keyed = key === "" ? {} : { "idempotency-key": key };
  const json = { "content-type": "application/json" };
  const headers = { "x-api-key": platform.team.apiKey, ...json, prefer, ...keyed };
  const url = `http://localhost${path}`;
  const request = {
    method,
    headers,
    ...(method === "DELETE" ? {} : { body: "{}" }),
  };
  const response = await platform.controlPlane.handle(new Request(url, request));
  const { status, body: answered } = await toAnswer(response);
  const applied = response.headers.get("preference-applied");
  return { status, body: answered, applied, location: response.headers.get("location") };
}

async function reaches(id: string, status: string): Promise<void> {
  const path = `/v1/capsules/${id}`;
  const look = async () => (await platform.call("GET", path)).body.status;
  await waitFor(`the capsule ${status}`, look, { holds: (seen) => seen === status });
}

test.each([
  ["POST", "/pause", "pauseSandbox", "paused"],
  ["DELETE", "", "destroySandbox", "stopped"],
] as const)("%s %s that is not waited for is 202 and goes on", async (method, verb, call, end) => {
  const id = await platform.create();
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore(call, () => hold.promise);

  const answer = await ask(method, `/v1/capsules/${id}${verb}`);
  hold.resolve();

  const location = `/v1/capsules/${id}`;
  expect(answer).toMatchObject({ status: 202, applied: "respond-async", location, body: { id } });
  await reaches(id, end);
});

test("a create that takes longer than the client waits is 202, and a repeated one joins it", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", () => hold.promise);
  const headers = { "idempotency-key": "held" };

  const late = await ask("POST", "/v1/capsules", { prefer: "wait=0", key: "held" });
  const joined = await ask("POST", "/v1/capsules", { key: "held" });
  hold.resolve();
  const again = await platform.call("POST", "/v1/capsules", { body: {}, headers });

  expect(late).toMatchObject({ status: 202, applied: "wait=0" });
  expect([joined.status, joined.body.id]).toEqual([202, late.body.id]);
  expect(again).toMatchObject({ status: 201, body: { id: late.body.id, status: "running" } });
});

test("a create that is not waited for is shown as what it is, alone and in the list", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", () => hold.promise);

  const { body } = await ask("POST", "/v1/capsules");
  await reaches(body.id, "starting");
  const [seen, listed] = [
    await platform.call("GET", `/v1/capsules/${body.id}`),
    await platform.call("GET", "/v1/capsules"),
  ];
  hold.resolve();
  await reaches(body.id, "running");

  // Whether its host was asked yet.
  expect(["pending", "starting"]).toContain(String(body.status));
  expect(Object.values(listed.body)).toMatchObject([{ id: body.id, status: "starting" }]);
  // Nothing of it runs.
  expect(seen.body).toMatchObject({ status: "starting", disk_size_mb: 0 });
  expect("started_at" in seen.body).toBe(false);
});

test("a create that fails after its 202 is found as what it came to", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", async () => {
    await hold.promise;
    throw new Error("no");
  });

  const { body } = await ask("POST", "/v1/capsules");
  hold.resolve();

  await reaches(body.id, "error");
});

test("the first clients never see 202: work is waited for, a create that is late is `starting`", async () => {
  const id = await platform.create();
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("pauseSandbox", () => hold.promise);

  const pausing = ask("POST", `/compat/0.1/v1/capsules/${id}/pause`, { prefer: "" });
  await reaches(id, "pausing");
  const seen = await platform.call("GET", `/compat/0.1/v1/capsules/${id}`);
  hold.resolve();

  expect(seen.body).toMatchObject({ id, status: "running" });
  expect(await pausing).toMatchObject({ status: 200, body: { id, status: "paused" } });
  const start = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", () => start.promise);
  const created = await ask("POST", "/compat/0.1/v1/capsules", { prefer: "" });
  start.resolve();
  expect(created).toMatchObject({ status: 201, body: { status: "starting" }, location: null });
  await reaches(created.body.id, "running");
});

// Their client takes any 2xx of the form that it knows, and resumes again what it still sees paused.
test("what is late is told to the first clients in the form and by the names that they know", async () => {
  const id = await platform.create();
  const prefer = "wait=0";
  const held: Array<() => void> = [];
  const late = async (call: "pauseSandbox" | "resumeSandbox" | "destroySandbox") => {
    const { promise, resolve } = Promise.withResolvers<void>();
    held.push(resolve);
    platform.agent.faultBefore(call, () => promise);
  };
  const path = `/compat/0.1/v1/capsules/${id}`;

  await late("pauseSandbox");
  const paused = await ask("POST", `${path}/pause`, { prefer });
  held.pop()?.();
  await reaches(id, "paused");
  await late("resumeSandbox");
  const resumed = await ask("POST", `${path}/resume`, { prefer });
  held.pop()?.();
  await reaches(id, "running");
  await late("destroySandbox");
  const destroyed = await ask("DELETE", path, { prefer });
  held.pop()?.();
  await reaches(id, "stopped");

  expect([paused, resumed, destroyed]).toMatchObject([
    { status: 200, location: null, body: { id, status: "running" } },
    { status: 200, location: null, body: { id, status: "starting" } },
    { status: 204, location: null },
  ]);
});

test("forks that are not waited for are 202, each as it is, and run later", async () => {
  const source = await platform.create();
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("forkSandbox", () => hold.promise);
  const path = `/v1/capsules/${source}/fork`;

  const answer = await ask("POST", path, { key: "forks" });
  const again = await ask("POST", path, { key: "forks" });
  const forks = Object.values(answer.body) as Array<{ capsule: { id: string; status: string } }>;
  hold.resolve();
  for (const { capsule } of forks) await reaches(capsule.id, "running");

  expect(forks).toMatchObject([{ capsule: { status: "starting", disk_size_mb: 0 } }]);
  const location = `/v1/capsules/${forks[0]?.capsule.id}`;
  expect(answer).toMatchObject({ status: 202, applied: "respond-async", location });
  expect(again).toMatchObject({ status: 202, location });
  expect(await platform.states()).toEqual({ running: 2 });
});

test("a fork that fails after its 202 is found as what it came to", async () => {
  const source = await platform.create();
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("forkSandbox", async () => {
    await hold.promise;
    throw new Error("no");
  });

  const { body } = await ask("POST", `/v1/capsules/${source}/fork`);
  hold.resolve();
  const [fork] = Object.values(body) as Array<{ capsule: { id: string } }>;

  await reaches(fork?.capsule.id ?? "", "error");
});
