// Calls that come again after their operation has ended, at an agent that did not see it.

import { expect, setDefaultTimeout, test } from "bun:test";
import { codeOf } from "../../tests/harness/agent-calls.ts";
import { AgentProcess } from "../../tests/harness/agent-process.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";

setDefaultTimeout(240_000);

const agent = await forThisFile(AgentProcess.start());

test("a pause and a resume that come again after a restart undo nothing that was done since", async () => {
  const id = await agent.create();
  const pause = agent.operation(id);
  const resume = agent.resumeRequest(id);
  await agent.client.pauseSandbox(pause);
  await agent.client.resumeSandbox(resume);

  await agent.kill();
  await agent.restart();
  const latePause = await codeOf(agent.client.pauseSandbox(pause));
  const running = await agent.statuses();
  await agent.client.pauseSandbox(agent.operation(id));
  await agent.kill();
  await agent.restart();
  const lateResume = await codeOf(agent.client.resumeSandbox(resume));

  expect([latePause, running]).toEqual(["Aborted", { [id]: "running" }]);
  expect([lateResume, await agent.statuses()]).toEqual(["Aborted", { [id]: "paused" }]);
  await agent.client.destroySandbox({ sandboxId: id });
});
