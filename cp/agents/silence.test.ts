import { afterAll, beforeAll, expect, test } from "bun:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { tlsOptions } from "../../proto/http1/tls.ts";
import { encodeId, newId } from "../../proto/ids.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import {
  AGENT_IDENTITY,
  AGENT_NAME,
  CONTROL_PLANE,
} from "../../tests/harness/test-certificates.ts";
import { agentTransport } from "./agent-clients.ts";

const IDLE_MS = 400;
/** Of an agent that does answer, in this very process: on a busy machine it may take its time. */
const PATIENT_MS = 2_000;
const sandboxId = encodeId("capsule", newId("capsule"));
const path = "/f";

let agent: SimulatedAgent;
let client: ReturnType<typeof clientOf>;
beforeAll(async () => {
  agent = new SimulatedAgent();
  client = clientOf(agent.address, PATIENT_MS);
  const sizes = { vcpus: 1, memoryMb: 128 };
  await client.createSandbox({ sandboxId, operationId: crypto.randomUUID(), ...sizes });
  await client.writeFile({ sandboxId, path, content: new Uint8Array(3_000_000) });
});
afterAll(() => agent[Symbol.asyncDispose]());

const tls = { identity: CONTROL_PLANE.current, serverName: AGENT_NAME };
const clientOf = (address: string, streamIdleMs = IDLE_MS) =>
  createClient(HostAgentService, agentTransport({ address, tls, streamIdleMs }));

/** An agent that takes a request and answers with so much of a response. */
function silentAgent(response: string) {
  return Bun.listen<boolean>({
    hostname: "127.0.0.1",
    port: 0,
    tls: tlsOptions(AGENT_IDENTITY),
    socket: {
      data(socket) {
        if (!socket.data) socket.write(response);
        socket.data = true;
      },
    },
  });
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return await call.then(
    () => "ok",
    (error) => Code[ConnectError.from(error).code] ?? "",
  );
}

/** Stops for a while after the first chunk. */
const download = async (from: typeof client, pauseMs = 0) => {
  let bytes = 0;
  for await (const { chunk } of from.readFileStream({ sandboxId, path })) {
    bytes += chunk.byteLength;
    await Bun.sleep(bytes === chunk.byteLength ? pauseMs : 0);
  }
  return bytes;
};

async function* upload(pauseMs: number) {
  yield { content: { case: "meta" as const, value: { sandboxId, path: "/up" } } };
  await Bun.sleep(pauseMs);
  yield { content: { case: "chunk" as const, value: new Uint8Array(1000) } };
}

test.each([
  ["nothing", ""],
  [
    "half a response",
    "HTTP/1.1 200 OK\r\nContent-Type: application/connect+proto\r\nContent-Length: 900\r\n\r\nx",
  ],
])("an agent that sends %s and then is silent fails its streams", async (_, response) => {
  using silent = silentAgent(response);
  const lost = clientOf(`127.0.0.1:${silent.port}`);
  const startedAt = performance.now();

  expect([await codeOf(download(lost)), await codeOf(lost.writeFileStream(upload(0)))]).toEqual([
    "Unavailable",
    "Unavailable",
  ]);
  expect(performance.now() - startedAt).toBeLessThan(IDLE_MS * 20);
});

// A slow client is no silent agent.
test("the time of whoever reads or sends does not count", async () => {
  const downloading = download(client, PATIENT_MS * 1.5);
  const uploading = codeOf(client.writeFileStream(upload(PATIENT_MS * 1.5)));

  expect([await downloading, await uploading]).toEqual([3_000_000, "ok"]);
});
