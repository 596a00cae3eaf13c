import { encodeId, newId } from "../../proto/ids.ts";
import { SimulatedAgent } from "../harness/simulated-agent.ts";
import { testAgentContract } from "./agent-contract.ts";

const MINIMAL_DEBIAN = "00000000-0000-0000-0000-000000000004";
const PLATFORM_TEAM = "00000000-0000-0000-0000-000000000000";
/** Long enough for a test to act while a capsule starts, pauses, resumes or is copied. */
const BOOT_MS = 60;

testAgentContract(async () => {
  const hostId = newId("host");
  const agent = new SimulatedAgent({ bootMs: BOOT_MS, hostId: encodeId("host", hostId) });
  agent.pauses.takesMs = BOOT_MS;
  return {
    place: agent.place,
    hostId,
    templateId: MINIMAL_DEBIAN,
    templateTeamId: PLATFORM_TEAM,
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
});
