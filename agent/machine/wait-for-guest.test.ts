// How long a guest that starts is waited for: by its console, whatever the host's speed.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitForGuest } from "./wait-for-guest.ts";

const SILENCE_MS = 300;
const TOTAL_MS = 1500;
const LINE_EVERY_MS = 20;

let dir = "";

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-wait-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** Waits for a guest that answers so; its console prints on unless it is silent. How it ended, and when. */
async function wait(health: () => Promise<string>, isSilent = false) {
  const consoleLog = join(dir, crypto.randomUUID());
  await appendFile(consoleLog, "it begins\n");
  const timer = isSilent
    ? undefined
    : setInterval(() => void appendFile(consoleLog, "it goes on\n"), LINE_EVERY_MS);
  const startedAt = performance.now();
  const answer = await waitForGuest(
    { health },
    {
      start: "boot",
      vmm: { exited: new Promise(() => {}) },
      ...{ silenceMs: SILENCE_MS, totalMs: TOTAL_MS, consoleLog, pollMs: 5 },
      signal: new AbortController().signal,
    },
  ).catch(String);
  clearInterval(timer);
  return { answer, elapsedMs: performance.now() - startedAt };
}

const never = () => Promise.reject(new Error("connection refused"));

test("one that prints nothing is given up after the time for that", async () => {
  const { answer, elapsedMs } = await wait(never, true);

  expect(answer).toContain("The guest was not up after 0 s");
  expect(elapsedMs).toBeGreaterThanOrEqual(SILENCE_MS);
  expect(elapsedMs).toBeLessThan(TOTAL_MS);
});

test("one that goes on printing gets the time that it needs", async () => {
  const upAt = performance.now() + 2 * SILENCE_MS;

  const { answer } = await wait(() =>
    performance.now() < upAt ? never() : Promise.resolve("0.6.13"),
  );

  expect(answer).toBe("0.6.13");
});

test("one that prints for ever is given up all the same", async () => {
  const { answer, elapsedMs } = await wait(never);

  expect(answer).toContain("The guest was not up after");
  expect(elapsedMs).toBeGreaterThanOrEqual(TOTAL_MS);
  expect(elapsedMs).toBeLessThan(2 * TOTAL_MS);
});
