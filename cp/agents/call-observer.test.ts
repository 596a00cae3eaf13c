import { afterAll, beforeAll, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { encodeId, newId } from "../../proto/ids.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { agentClients } from "../../tests/harness/test-certificates.ts";
import type { AgentClients } from "./agent-clients.ts";
import type { AgentCallOutcome } from "./call-observer.ts";

const observed: AgentCallOutcome[] = [];
const sandboxId = encodeId("capsule", newId("capsule"));

let agent: SimulatedAgent;
let client: ReturnType<AgentClients["at"]>;
beforeAll(async () => {
  agent = new SimulatedAgent();
  client = agentClients((call) => observed.push(call)).at(agent.place);
  const sizes = { vcpus: 1, memoryMb: 128 };
  await client.createSandbox({ sandboxId, operationId: crypto.randomUUID(), ...sizes });
  await client.writeFile({ sandboxId, path: "/f", content: new Uint8Array(300_000) });
});
afterAll(() => agent[Symbol.asyncDispose]());

/** What was observed of one call, whatever came of it. */
async function outcomesOf(call: () => Promise<unknown>): Promise<string[]> {
  observed.length = 0;
  await call().catch(() => {});
  return observed.map(({ method, outcome }) => `${method} ${outcome}`);
}

test("a call that succeeds is observed with the time it took", async () => {
  agent.faultBefore("listSandboxes", () => Bun.sleep(20));

  expect(await outcomesOf(() => client.listSandboxes({}))).toEqual(["ListSandboxes ok"]);
  expect(observed[0]?.seconds).toBeGreaterThan(0.015);
});

test("a call that fails is observed with its code", async () => {
  agent.faultBefore("listSandboxes", () => {
    throw new ConnectError("full", Code.ResourceExhausted);
  });

  expect(await outcomesOf(() => client.listSandboxes({}))).toEqual([
    "ListSandboxes ResourceExhausted",
  ]);
});

test("a stream is observed at its end, however it ends", async () => {
  const reader = new AbortController();
  const read = async (path: string, signal?: AbortSignal) => {
    for await (const _ of client.readFileStream({ sandboxId, path }, signal ? { signal } : {})) {
      if (signal) reader.abort();
    }
  };

  const whole = await outcomesOf(() => read("/f"));
  const cut = await outcomesOf(() => read("/f", reader.signal));
  const missing = await outcomesOf(() => read("/absent"));

  expect([whole, cut, missing]).toEqual([
    ["ReadFileStream ok"],
    ["ReadFileStream Canceled"],
    ["ReadFileStream NotFound"],
  ]);
});

test("an agent that is not there is observed, too", async () => {
  const gone = agentClients((call) => observed.push(call)).at({
    ...agent.place,
    address: "127.0.0.1:9",
  });

  expect(await outcomesOf(() => gone.listSandboxes({}))).toEqual([
    expect.stringMatching(/^ListSandboxes (Unknown|Unavailable|Internal)$/),
  ]);
});
