// What answers at a host's address need not be its agent: a proxy on the way, another program, a page of a cloud.

import { afterAll, expect, test } from "bun:test";
import { tlsOptions } from "../../proto/http1/tls.ts";
import { AGENT_IDENTITY, AGENT_NAME, agentClients } from "../../tests/harness/test-certificates.ts";
import { agentFailure, isCutOff } from "./agent-errors.ts";
import { RESTART_TIMEOUT_MS } from "./limits.ts";
import { acrossRestart } from "./retry.ts";

const json = (status: number, body: object) => () => Response.json(body, { status });
const page = (status: number) => () =>
  new Response("<h1>sorry</h1>", { status, headers: { "Content-Type": "text/html" } });

const ANSWERS: Readonly<Record<string, () => Response>> = {
  "a page in place of an answer": page(200),
  "an answer without a body": () => new Response(null, { status: 204 }),
  "a redirect": () => Response.redirect("/elsewhere", 301),
  "400": page(400),
  "401": page(401),
  "403": page(403),
  "404": page(404),
  "404 in JSON": json(404, { message: "no Route matched with those values" }),
  "404 in JSON with a code": json(404, { code: 404, message: "page not found" }),
  "413": page(413),
  "429": page(429),
  "500": page(500),
  "502": page(502),
  "503": () => new Response("", { status: 503 }),
  "504": page(504),
};

let answer: () => Response | Promise<Response> = page(200);
// Nothing else has an agent's certificate; one that decrypts for others may be on the way.
const server = Bun.serve({
  ...{ hostname: "127.0.0.1", port: 0 },
  tls: tlsOptions(AGENT_IDENTITY),
  fetch: () => answer(),
});
const address = `127.0.0.1:${server.port}`;
const client = agentClients().at({ id: null, address, certName: AGENT_NAME });
afterAll(() => server.stop(true));

async function failureOf(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return await call();
  } catch (error) {
    return error;
  }
}

async function drained(): Promise<void> {
  for await (const _ of client.execStream({ sandboxId: "", cmd: "true" })) break;
}

test.each(Object.keys(ANSWERS))(
  "%s is no agent's word, but a host that does not answer",
  async (name) => {
    answer = ANSWERS[name] ?? answer;

    const errors = [await failureOf(() => client.listSandboxes({})), await failureOf(drained)];

    const met = errors.map((error) => {
      const { status, message, retryable } = agentFailure(error, "capsule").toBody().error;
      return { status, message, retryable, isCutOff: isCutOff(error) };
    });
    const silent = {
      status: undefined,
      message: "The capsule's host does not answer",
      retryable: true,
      isCutOff: true,
    };
    expect(met).toEqual([silent, silent]);
  },
);

// A proxy looks for a host that is away before it says so: its answers take longer than those of a closed port.
test("a call is not repeated for longer than an agent's restart takes, however slow they are", async () => {
  let calls = 0;
  answer = async () => {
    calls += 1;
    await Bun.sleep(250);
    return new Response("", { status: 502 });
  };
  const options = { timeoutMs: 20_000, signal: new AbortController().signal };
  const startedAt = performance.now();

  await expect(
    acrossRestart(options, (within) => client.listSandboxes({}, within)),
  ).rejects.toThrow("no agent");

  expect(calls).toBeGreaterThan(1);
  expect(performance.now() - startedAt).toBeLessThan(3 * RESTART_TIMEOUT_MS);
});

test("what an agent refuses stays its own word", async () => {
  answer = json(404, { code: "not_found", message: "No such file" });

  const error = await failureOf(() => client.listSandboxes({}));

  expect(agentFailure(error, "capsule").toBody().error.message).toBe("No such file");
  expect(isCutOff(error)).toBe(false);
});
