// A log that cannot be written, as on a full disk, or when whoever read it is gone.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../scripts/dev/ports.ts";
import { cloneDatabase, type TestDatabase } from "../tests/harness/database.ts";
import { AUTHORITY_SETTINGS } from "../tests/harness/test-certificates.ts";
import { waitFor } from "../tests/harness/wait-for.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
});

afterAll(() => database[Symbol.asyncDispose]());

test("costs the control plane lines, and no request", async () => {
  const port = await freePort();
  await using full = await open("/dev/full", "a");
  const program = Bun.spawn([process.execPath, join(import.meta.dirname, "main.ts")], {
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: database.url,
      REDIS_URL: process.env.REDIS_URL,
      JWT_SECRET: "a-signing-secret-of-enough-length",
      WRENN_ENCRYPTION_KEY: "4e".repeat(32),
      ...AUTHORITY_SETTINGS,
      WRENN_CP_LISTEN_ADDR: `127.0.0.1:${port}`,
      LOG_LEVEL: "debug",
    },
    stdio: ["ignore", "ignore", full.fd],
  });
  const ask = async () => {
    if (program.exitCode !== null) throw new Error(`It ended with ${program.exitCode}`);
    const answer = await fetch(`http://127.0.0.1:${port}/v1/capsules`).catch(() => null);
    return answer?.status;
  };

  expect(await waitFor("an answer", ask)).toBe(401);
  expect(await ask()).toBe(401);
  program.kill("SIGTERM");
  expect(await program.exited).toBe(0);
});
