import { afterAll, beforeAll, expect, test } from "bun:test";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";

let platform: TestPlatform;

beforeAll(async () => {
  platform = await TestPlatform.start();
});

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
});

test("a capsule is created running, runs a command, and is destroyed", async () => {
  const created = await platform.call("POST", "/v1/capsules", { body: {} });
  const path = `/v1/capsules/${created.body.id}`;
  const got = await platform.call("GET", path);
  const listed = await platform.call("GET", "/v1/capsules");
  const exec = await platform.call("POST", `${path}/exec`, {
    body: { cmd: "/bin/sh", args: ["-c", "echo hello"] },
  });
  const destroyed = await platform.call("DELETE", path);
  const after = await platform.call("GET", path);

  expect(created).toMatchObject({
    status: 201,
    body: { status: "running", template: "minimal-debian", vcpus: 1, memory_mb: 512 },
  });
  expect<unknown>(got).toEqual({ status: 200, body: created.body });
  expect<unknown>(listed).toEqual({ status: 200, body: [created.body] });
  expect(exec).toMatchObject({ status: 200, body: { stdout: "hello\n", exit_code: 0 } });
  expect<unknown>(destroyed).toEqual({ status: 204, body: "" });
  expect(after).toMatchObject({ status: 200, body: { status: "stopped" } });
  expect(platform.agent.capsules.size).toBe(0);
});
