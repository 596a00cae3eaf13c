import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMemoryDamaged } from "./pager-verdict.ts";

let runDir: string;

beforeAll(async () => {
  runDir = await mkdtemp(join(tmpdir(), "wrenn-verdict-"));
  await mkdir(join(runDir, "pager"));
});

afterAll(() => rm(runDir, { recursive: true }));

test("without a pager nothing is damaged", async () => {
  expect(await isMemoryDamaged(join(runDir, "none"))).toBe(false);
});

test.each([
  ['{"reason":"layer 2: a checksum is wrong","error":"EBADMSG"}', true],
  ['{"reason":"cannot read","error":"EIO"}', true],
  ['{"reason":"a bad message","error":"EPROTO"}', false],
  ["", false],
  ['{"error":', false],
  ['{"error":74}', false],
])("what the pager wrote is told apart: %s", async (text, isDamaged) => {
  await writeFile(join(runDir, "pager/reason"), text);

  expect(await isMemoryDamaged(runDir)).toBe(isDamaged);
});

test("a pager that was taken over cannot have other files read, nor make the agent wait", async () => {
  const path = join(runDir, "pager/reason");
  await writeFile(join(runDir, "other"), '{"error":"EBADMSG"}');
  await rm(path, { force: true });
  await symlink(join(runDir, "other"), path);
  expect(await isMemoryDamaged(runDir)).toBe(false);
  await rm(path);
  await Bun.$`mkfifo ${path}`.quiet();
  expect(await isMemoryDamaged(runDir)).toBe(false);
});
