// The contract of envd, held by the one inside a real microVM: the tests that hold envd on this machine
// run again, over the capsule's network.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { resolve } from "node:path";
import { AgentProcess } from "../harness/agent-process.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** See PACE in fixture.ts; the processor of a guest is emulated. */
const PACE = 10;
/** Of one file of tests, most of which take half a minute. */
const FILE_TIMEOUT_MS = 300_000;

setDefaultTimeout(FILE_TIMEOUT_MS + 10_000);

let agent: AgentProcess;
let env: Record<string, string | undefined>;
beforeAll(async () => {
  agent = await AgentProcess.start();
  const request = { ...agent.createRequest(), memoryMb: 512 };
  const { hostIp } = await agent.client.createSandbox(request);
  env = {
    ...process.env,
    ENVD_URL: `http://${hostIp}:49983`,
    ENVD_TOKEN: request.envdAccessToken,
    ENVD_PACE: String(PACE),
  };
});
afterAll(() => agent[Symbol.asyncDispose]());

test.each([
  "process-request",
  "process-start",
  "process-streams",
  "filesystem",
  "watch",
  "files",
  "links",
  "metadata",
  "hostile",
  "e2b-client",
])("%s", async (name) => {
  const file = `./tests/envd/${name}.host.test.ts`;
  const child = Bun.spawn([process.execPath, "test", "--only-failures", "--retry=1", file], {
    cwd: ROOT,
    env,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: FILE_TIMEOUT_MS,
  });
  const outputs = [child.stdout, child.stderr].map((stream) => new Response(stream).text());
  const [out, err] = await Promise.all(outputs);

  // The failures of the file are the message.
  expect((await child.exited) === 0 ? "" : `${out}${err}`).toBe("");
});
