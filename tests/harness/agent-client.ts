// A client of the platform's agent, for what the public API does not tell.

import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { platform } from "./platform.ts";

export async function agentClient(): Promise<Client<typeof HostAgentService>> {
  const { ports } = await platform();
  const baseUrl = `http://127.0.0.1:${ports.agent}`;
  return createClient(HostAgentService, createConnectTransport({ baseUrl }));
}
