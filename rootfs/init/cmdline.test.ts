// Runs the C tests of what wrenn-init parses and writes, under sanitizers.

import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../run.ts";

const FLAGS = [
  ...["-std=gnu17", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"],
  ...["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
];

test("wrenn-init's texts hold their promises under sanitizers", async () => {
  const dir = await mkdtemp(join(tmpdir(), "wrenn-init-test-"));
  try {
    const program = join(dir, "cmdline");
    await run(["gcc", ...FLAGS, "-o", program, "tests/cmdline.c", "cmdline.c", "small-file.c"], {
      cwd: import.meta.dirname,
    });

    const result = await Bun.$`${program} ${dir}`.nothrow().quiet();

    expect(result.stderr.toString()).toBe("");
    expect(result.exitCode).toBe(0);
    expect(result.stdout.toString().match(/^ok /gm)?.length).toBe(10);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
