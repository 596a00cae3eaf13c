// What tests of the agent's capsules ask again and again.

import { Code, ConnectError } from "@connectrpc/connect";
import type { AgentProcess } from "./agent-process.ts";

const POLL_MS = 20;

/** The name of the code that the call fails with, or "none". */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "none";
  } catch (error) {
    return Code[ConnectError.from(error).code] ?? "";
  }
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await Bun.sleep(POLL_MS);
}

export async function infoOf(agent: AgentProcess, id: string) {
  const { sandboxes } = await agent.client.listSandboxes({});
  return sandboxes.find(({ sandboxId }) => sandboxId === id);
}

/** Waits until a paused capsule needs nothing but its files. */
export async function untilDurable(agent: AgentProcess, id: string): Promise<void> {
  await until(async () => {
    const info = await infoOf(agent, id);
    return Boolean(info?.durableAtUnix) && !info?.hostIp;
  });
}

/** Pauses the capsule and waits until it is durable. */
export async function pauseDurably(agent: AgentProcess, id: string): Promise<void> {
  await agent.client.pauseSandbox(agent.operation(id));
  await untilDurable(agent, id);
}

/** Where the resumed capsule came from. */
export async function resume(agent: AgentProcess, id: string): Promise<string> {
  return (await agent.client.resumeSandbox(agent.resumeRequest(id))).resumedFrom;
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
