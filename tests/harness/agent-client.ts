// A client of the platform's agent, for what the public API does not tell.

import { join } from "node:path";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { readVmmRecord } from "../../agent/keeper/run-records.ts";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import type { Capsule } from "./client.ts";
import { platform } from "./platform.ts";

export async function agentClient(): Promise<Client<typeof HostAgentService>> {
  const { ports } = await platform();
  const baseUrl = `http://127.0.0.1:${ports.agent}`;
  return createClient(HostAgentService, createConnectTransport({ baseUrl }));
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
