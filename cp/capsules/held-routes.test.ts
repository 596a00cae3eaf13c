import { expect, test } from "bun:test";
import { stripCompatBase } from "../compat.ts";
import { type HeldVerb, holdFor } from "./held-routes.ts";

const VERBS = ["create", "fork", "resume", "pause", "destroy", "snapshot"] as const;

function asked(base: string, prefer?: string): Request {
  const headers = prefer === undefined ? {} : { prefer };
  const request = new Request(`http://wrenn.test${base}/v1/capsules`, { headers });
  stripCompatBase(request, request.url);
  return request;
}

const holdSec = (request: Request, verb: HeldVerb) => holdFor(request, verb).waitMs / 1000;

// Theirs is 5 s, and 60 s where they know that it takes long (client.py of 0.1.2); 0.3.0 waits 30 s, and
// 60 s for a snapshot.
const CLIENTS = [
  { base: "/compat/0.1", usualSec: 5, long: ["pause", "snapshot"] },
  { base: "", usualSec: 30, long: ["snapshot"] },
] as const;

test.each(CLIENTS)('below "$base" every answer comes before clients give up', (client) => {
  const long: readonly HeldVerb[] = client.long;
  for (const verb of VERBS) {
    const patienceSec = long.includes(verb) ? 60 : client.usualSec;
    const sec = holdSec(asked(client.base), verb);

    expect(sec).toBeLessThan(patienceSec);
    expect(sec).toBeGreaterThanOrEqual(patienceSec * 0.6);
  }
});

test.each(CLIENTS)('below "$base" a client that says how long it waits has its way', ({ base }) => {
  expect(holdFor(asked(base, "wait=7"), "create")).toEqual({ waitMs: 7000, applied: "wait=7" });
});
