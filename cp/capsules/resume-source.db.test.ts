// What a resume comes from: whatever is newest, or what was asked for, in the new spelling and the old one.

import { expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";

const platform = await forThisFile(TestPlatform.start());

const pause = (id: string) => platform.call("POST", `/v1/capsules/${id}/pause`);
const resume = (id: string, body?: unknown) =>
  platform.call("POST", `/v1/capsules/${id}/resume`, body === undefined ? {} : { body });

test("a resume may ask for disk or memory, in the old spelling too, and by itself takes the newest", async () => {
  const id = await platform.create({});
  const bodies = [
    [{ from: "disk" }, "disk"],
    [{ from: "memory" }, "memory"],
    [{ memory: false }, "disk"],
    [{ memory: true }, "memory"],
    [{}, "memory"],
    [undefined, "memory"],
  ] as const;

  for (const [body, from] of bodies) {
    await pause(id);
    expect(await resume(id, body)).toMatchObject({
      status: 200,
      body: { metadata: { resumed_from: from } },
    });
  }
  await pause(id);
  for (const body of [{ from: "memory", memory: true }, { from: "tape" }, { memory: "no" }]) {
    const { status, body: answer } = await resume(id, body);
    expect([status, answer.error?.code]).toEqual([400, "invalid_request"]);
  }
});

// Its answer was lost, so the host's list is what tells.
test("what a capsule came back from is known also when the host's answer was lost", async () => {
  const id = await platform.create({});
  await pause(id);
  platform.agent.faultAfter("resumeSandbox", () => {
    throw new ConnectError("the line was cut", Code.Unknown);
  });

  const resumed = await resume(id, { from: "disk" });

  expect(resumed).toMatchObject({ status: 200, body: { metadata: { resumed_from: "disk" } } });
});
