import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withWorkDir } from "./work-dir.ts";

/** Above the kernel's largest pid, so no process has it. */
const DEAD_PID = 4_194_305;

let parent: string;
beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), "wrenn-work-dir-test-"));
});
afterAll(() => rm(parent, { recursive: true, force: true }));

test("a work directory is the caller's alone and gone after a failure", async () => {
  const build = withWorkDir(parent, async (dir) => {
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
    await writeFile(join(dir, "half"), "");
    throw new Error("no space");
  });

  await expect(build).rejects.toThrow("no space");
  expect(await readdir(parent)).toEqual([]);
});

test("what a killed build left is removed, what a running one uses is not", async () => {
  await mkdir(join(parent, `work-${DEAD_PID}-abcdef`));
  await mkdir(join(parent, `work-${process.ppid}-abcdef`));

  await withWorkDir(parent, async () => undefined);

  expect(await readdir(parent)).toEqual([`work-${process.ppid}-abcdef`]);
});
