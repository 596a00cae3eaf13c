// What answers instead of a pager may be anything: the run directory is its user's own.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readPagerStats, readRegions } from "./pager.ts";

const NEVER_MS = 600_000;

let runDir: string;
let server: Server | null;

beforeEach(async () => {
  runDir = await mkdtemp(join(tmpdir(), "wrenn-pager-"));
  await mkdir(join(runDir, "pager"));
});

afterEach(async () => {
  server?.close();
  await rm(runDir, { recursive: true });
});

/** A pager that does that with whoever asks it. */
async function answering(answer: (asker: Socket) => void): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server = createServer((asker) => {
    asker.on("error", () => {});
    asker.once("data", () => answer(asker));
  }).listen(join(runDir, "pager/control.sock"), resolve);
  await promise;
}

async function failure(asked: Promise<unknown>): Promise<string> {
  const error: unknown = await asked.catch((error: unknown) => error);
  if (!(error instanceof Error) || !(error.cause instanceof Error)) throw new Error("no failure");
  return `${error.message}: ${error.cause.message}`;
}

test("an answer may come in pieces, and is one line", async () => {
  await answering((asker) => {
    asker.write('{"faults":');
    setTimeout(() => asker.write("1}\nwhat is more"), 5);
  });

  expect(await readPagerStats(runDir, NEVER_MS)).toEqual({ faults: 1 });
});

test.each<[what: string, answer: (asker: Socket) => void, why: string]>([
  ["has no end", (asker) => void asker.write("1".repeat(100_000)), "an endless answer"],
  ["does not come", (asker) => void asker.end(), "closed without an answer"],
  ["is no JSON", (asker) => void asker.write("ready\n"), "JSON"],
  ["is another", (asker) => void asker.write('{"ready":true}\n'), "Expected"],
])("an answer that %s is a failure", async (_, answer, why) => {
  await answering(answer);

  const told = await failure(readRegions(runDir, NEVER_MS));

  expect(told).toStartWith("The pager does not answer regions: ");
  expect(told).toContain(why);
});

test("a pager that says nothing is given up in time", async () => {
  await answering(() => {});

  expect(await failure(readRegions(runDir, 5))).toEndWith("closed without an answer");
});
