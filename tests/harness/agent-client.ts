// A client of the platform's agent, for what the public API does not tell.

import { join } from "node:path";
import { readVmmRecord } from "../../agent/keeper/run-records.ts";
import type { AgentClient } from "../../cp/agents/agent-clients.ts";
import { callAgent } from "../../scripts/dev/agent-certificate.ts";
import type { Capsule } from "./client.ts";
import { platform } from "./platform.ts";

export async function agentClient(): Promise<AgentClient> {
  const { ports, secrets, dir } = await platform();
  const address = `127.0.0.1:${ports.agent}`;
  return await callAgent(secrets, { agentDir: dir.agentDir, address });
}

/** Where the host reaches the capsule's guest. */
export async function hostIpOf(capsule: Capsule): Promise<string> {
  const { sandboxes } = await (await agentClient()).listSandboxes({});
  const found = sandboxes.find((sandbox) => sandbox.sandboxId === capsule.id);
  if (!found) throw new Error(`${capsule.id} is not on the host`);
  return found.hostIp;
}

/** The process of the capsule's VMM. */
export async function vmmPid(capsule: Capsule): Promise<number> {
  const { dir } = await platform();
  const record = await readVmmRecord(join(dir.agentDir, "run", capsule.id));
  if (record === null) throw new Error(`${capsule.id} has no VMM`);
  return record.pid;
}
