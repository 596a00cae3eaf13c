import { afterAll, beforeAll, expect, test } from "bun:test";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";

let platform: TestPlatform;

beforeAll(async () => {
  platform = await TestPlatform.start();
});

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
});

test("a template that goes between the look at it and the restore is not found", async () => {
  const id = await platform.create();
  await platform.call("POST", "/v1/snapshots", { body: { sandbox_id: id, name: "ours" } });
  const { pauses } = platform.agent;
  platform.agent.faultBefore("createSandbox", async () => {
    for (const templateId of pauses.templates.keys()) await pauses.deleteSnapshot(templateId);
  });

  const answer = await platform.call("POST", "/v1/capsules", { body: { template: "ours" } });

  expect(answer).toMatchObject({
    status: 404,
    body: { error: { code: "not_found", reason: "template_not_found", retryable: false } },
  });
  expect(await platform.states()).toEqual({ running: 1, error: 1 });
});
