import { expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { RESTART_TIMEOUT_MS } from "./limits.ts";
import { acrossRestart } from "./retry.ts";

const options = { timeoutMs: 60_000, signal: new AbortController().signal };

/** Fails so often with that, then answers; says how often it was called. */
function failing(times: number, failure: () => Error) {
  const calls = { count: 0 };
  const call = async () => {
    calls.count++;
    if (calls.count <= times) throw failure();
    return "answer";
  };
  return { calls, call };
}

const stopping = () =>
  new ConnectError("The agent is stopping", Code.Unavailable, { "wrenn-reason": "host" });

test("a call that an agent's restart cuts off is answered by the next agent", async () => {
  const { call, calls } = failing(3, stopping);

  expect(await acrossRestart(options, call)).toBe("answer");
  expect(calls.count).toBe(4);
});

test("what an agent answers is the answer, also when it is a failure", async () => {
  const { call, calls } = failing(1, () => new ConnectError("no", Code.Internal));

  expect(acrossRestart(options, call)).rejects.toThrow("no");
  expect(calls.count).toBe(1);
});

test("a guest that does not answer is no agent that restarts", async () => {
  const silent = () => new ConnectError("no", Code.Unavailable, { "wrenn-reason": "guest" });
  const { call, calls } = failing(1, silent);

  expect(acrossRestart(options, call)).rejects.toThrow("no");
  expect(calls.count).toBe(1);
});

test("a host that stays away is given up after the time of a restart", async () => {
  const { call } = failing(Number.POSITIVE_INFINITY, stopping);
  const startedAt = performance.now();

  await expect(acrossRestart(options, call)).rejects.toThrow("stopping");

  const tookMs = performance.now() - startedAt;
  expect(tookMs).toBeGreaterThan(RESTART_TIMEOUT_MS / 2);
  expect(tookMs).toBeLessThan(RESTART_TIMEOUT_MS * 2);
});

test("who ends, and whose time is over, does not try again", async () => {
  const over = failing(1, stopping);
  const ended = failing(1, stopping);

  await expect(acrossRestart({ ...options, timeoutMs: 50 }, over.call)).rejects.toThrow();
  const aborted = { ...options, signal: AbortSignal.abort() };
  await expect(acrossRestart(aborted, ended.call)).rejects.toThrow();

  expect([over.calls.count, ended.calls.count]).toEqual([1, 1]);
});
