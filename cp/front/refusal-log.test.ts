// What is forwarded and comes to nothing, as the log tells it; what is answered at once: answers.db.test.ts.

import { expect, test } from "bun:test";
import { Front, type FrontLimits } from "../../proto/http1/listener.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { Answer, Forward, Verdict } from "../../proto/http1/verdict.ts";
import { createLog } from "../log.ts";
import { frontLimits } from "./limits.ts";
import { refusalLog } from "./refusal-log.ts";
import { refuseRequest } from "./refusals.ts";

const LIMITS: FrontLimits = frontLimits(4096);

/** The lines about one request that is forwarded to the port, and its answer. */
async function told(port: number, forward: (answer: Answer) => Partial<Forward>) {
  const lines: Record<string, unknown>[] = [];
  const log = createLog("debug", (line) => lines.push(JSON.parse(line)));
  const pool = new UpstreamPool({
    address: { hostname: "127.0.0.1", port },
    ...{ idleMax: 1, idleMs: 1000, connectionsMax: 1, retryAfterMs: [], dialTimeoutMs: 1000 },
    isFickle: false,
  });
  await using front = new Front({
    limits: LIMITS,
    failed: (error) => {
      throw error;
    },
    answered: refusalLog(log),
    router: (request) => {
      const answer = refuseRequest(503, "it is away", request);
      return {
        ...{ pool, target: request.target, headers: request.headers, idleTimeoutMs: null },
        respond: ({ headers }) => headers,
        explain: () => answer,
        ...forward(answer),
      };
    },
  });
  const at = front.listen({ hostname: "127.0.0.1", port: 0 });
  const response = await fetch(`http://127.0.0.1:${at}/a?b`, { headers: { "x-request-id": "r1" } });
  await response.text();
  pool.close();
  return { status: response.status, lines };
}

const LINE = { level: "info", message: "request", requestId: "r1", method: "GET", path: "/a" };
const later = async (verdict: Verdict): Promise<Verdict> => verdict;

test("a place where nobody listens is a line, whether that is known at once or looked up", async () => {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("") });
  const port = server.port ?? 0;
  await server.stop(true);

  for (const forward of [() => ({}), (answer: Answer) => ({ explain: () => later(answer) })]) {
    const { status, lines } = await told(port, forward);
    expect(status).toBe(503);
    expect(lines).toMatchObject([{ ...LINE, status: 503, why: "it is away" }]);
  }
});

test("an answer in the place of another's is a line, another's own is none", async () => {
  await using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response("theirs", { status: 404 }),
  });
  const port = server.port ?? 0;

  const ours = await told(port, (answer) => ({ respond: () => later(answer) }));
  const theirs = await told(port, () => ({}));

  expect(ours).toMatchObject({ status: 503, lines: [{ ...LINE, status: 503 }] });
  expect(theirs).toEqual({ status: 404, lines: [] });
});
