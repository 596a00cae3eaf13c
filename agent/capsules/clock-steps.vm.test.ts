// A host whose clock is set while its agent runs, by a month ahead and back again, and while none runs: nobody
// is paused for it, who is due is, guests have the time of their host, and what is newest is newest.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  codeOf,
  infoOf,
  pauseDurably,
  resume,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { SteppedClock } from "../../tests/harness/stepped-clock.ts";

const MONTH_MS = 30 * 86_400_000;
/** In the order in which the clock has them. */
const STEPS = [MONTH_MS, -MONTH_MS, 0];
const CLOCK_OFF_MS_MAX = 2_000;
const CALLED_OFF_MS_MAX = 5_000;

setDefaultTimeout(240_000);

const stack = new AsyncDisposableStack();
const clock = stack.use(new SteppedClock());
let agent: AgentProcess;
/** Has half an hour until its timeout. */
let id: string;

beforeAll(async () => {
  agent = stack.use(await AgentProcess.start());
  await agent.kill("SIGTERM");
  await agent.restart({ env: clock.env });
  const request = { ...agent.createRequest(), timeoutSec: 1800 };
  id = (await agent.client.createSandbox(request)).sandboxId;
});

afterAll(() => stack.disposeAsync());

/** By how much the guest's clock differs from its host's. */
async function guestOffMs(): Promise<number> {
  const guestMs = Number(await agent.sh(id, "date +%s%3N"));
  return Math.abs(guestMs - clock.nowMs());
}

test("the agent goes by the clock that is set", async () => {
  clock.set(MONTH_MS);
  await agent.client.listSandboxes({});
  await agent.sh(id, "true");

  const lastActiveMs = Number((await infoOf(agent, id))?.lastActiveAtUnix ?? 0n) * 1000;

  expect(Math.abs(lastActiveMs - clock.nowMs())).toBeLessThan(CALLED_OFF_MS_MAX);
});

test.each(STEPS)(
  "set to %d ms while it runs: who is due is paused, and nobody else",
  async (ms) => {
    const request = { ...agent.createRequest(), timeoutSec: 3 };
    const { sandboxId } = await agent.client.createSandbox(request);

    clock.set(ms);

    await untilStatus(agent, sandboxId, "paused");
    expect((await agent.statuses())[id]).toBe("running");
    await agent.client.destroySandbox({ sandboxId });
  },
);

test.each(STEPS)(
  "set to %d ms while it is paused: what is newest comes back, and its time",
  async (ms) => {
    await agent.sh(id, `echo ${ms} > /dev/shm/word`);
    await pauseDurably(agent, id);
    clock.set(ms);

    expect(await resume(agent, id)).toBe("memory");

    expect(await agent.sh(id, "cat /dev/shm/word")).toBe(`${ms}\n`);
    expect(await guestOffMs()).toBeLessThan(CLOCK_OFF_MS_MAX);
  },
);

// One that is set ahead makes whoever has a timeout look unused: that is told at `ActivityClock`.
test.each([-MONTH_MS, 0])("set to %d ms while no agent runs: the next one goes on", async (ms) => {
  const request = { ...agent.createRequest(), timeoutSec: 3 };
  const { sandboxId } = await agent.client.createSandbox(request);
  await agent.kill();
  clock.set(ms);

  await agent.restart({ env: clock.env });

  await untilStatus(agent, sandboxId, "paused");
  expect((await agent.statuses())[id]).toBe("running");
  await agent.client.destroySandbox({ sandboxId });
  expect(await codeOf(agent.client.pauseSandbox(agent.operation(id)))).toBe("none");
  expect(await resume(agent, id)).toBe("memory");
  expect(await guestOffMs()).toBeLessThan(CLOCK_OFF_MS_MAX);
});

test("nothing of it all is left", async () => {
  await agent.client.destroySandbox({ sandboxId: id });

  expect(await agent.leftovers()).toEqual(NOTHING);
});
