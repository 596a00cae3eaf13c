// What tests of the agent's capsules ask again and again.

import { Code, ConnectError } from "@connectrpc/connect";
import type { AgentProcess } from "./agent-process.ts";
import { GUEST_MS, waitFor } from "./wait-for.ts";

/** The name of the code that the call fails with, or "none". */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "none";
  } catch (error) {
    return Code[ConnectError.from(error).code] ?? "";
  }
}

/** Waits until the capsule has that status. */
export async function untilStatus(agent: AgentProcess, id: string, status: string): Promise<void> {
  await waitFor(`${id} to be ${status}`, async () => (await agent.statuses())[id], {
    holds: (seen) => seen === status,
    timeoutMs: GUEST_MS,
  });
}

/** Waits until the agent has no capsule. */
export async function untilNone(agent: AgentProcess): Promise<void> {
  await waitFor("the end of all capsules", () => agent.statuses(), {
    holds: (seen) => Object.keys(seen).length === 0,
    timeoutMs: GUEST_MS,
  });
}

export async function infoOf(agent: AgentProcess, id: string) {
  const { sandboxes } = await agent.client.listSandboxes({});
  return sandboxes.find(({ sandboxId }) => sandboxId === id);
}

/** Waits until a paused capsule needs nothing but its files. */
export async function untilDurable(agent: AgentProcess, id: string): Promise<void> {
  const isDurable = (info: Awaited<ReturnType<typeof infoOf>>) => {
    if (info?.status === "error") throw new Error(`${id} is in error: ${info.reason}`);
    return Boolean(info?.durableAtUnix) && !info?.hostIp;
  };
  await waitFor(`${id} to be durable`, () => infoOf(agent, id), {
    holds: isDurable,
    timeoutMs: GUEST_MS,
  });
}

/** Pauses the capsule and waits until it is durable. */
export async function pauseDurably(agent: AgentProcess, id: string): Promise<void> {
  await agent.client.pauseSandbox(agent.operation(id));
  await untilDurable(agent, id);
}

/** Where the resumed capsule came from; `from`: where it is to come from, if not from whatever is newest. */
export async function resume(
  agent: AgentProcess,
  id: string,
  from: "" | "memory" | "disk" = "",
): Promise<string> {
  const request = { ...agent.resumeRequest(id), from };
  return (await agent.client.resumeSandbox(request)).resumedFrom;
}

/** Restarts the agent with a failpoint, or without one. */
export async function arm(agent: AgentProcess, failpoint = ""): Promise<void> {
  await agent.kill("SIGTERM");
  await agent.restart({ failpoint });
}

export async function destroyAll(agent: AgentProcess): Promise<void> {
  for (const sandboxId of Object.keys(await agent.statuses())) {
    await agent.client.destroySandbox({ sandboxId });
  }
}
