// The contract of agents, held by the real one with a real microVM.

import { AgentProcess, MINIMAL_DEBIAN, PLATFORM_TEAM } from "../harness/agent-process.ts";
import { testAgentContract } from "./agent-contract.ts";

testAgentContract(async () => {
  const agent = await AgentProcess.start();
  return {
    place: agent.place,
    hostId: agent.hostId,
    templateId: MINIMAL_DEBIAN,
    templateTeamId: PLATFORM_TEAM,
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
});
