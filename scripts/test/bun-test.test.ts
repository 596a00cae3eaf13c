// The runner itself: what it counts, and that a second attempt is never silent.

import { expect, test } from "bun:test";
import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { bunTest, compare, mayBeFlaky, NOTHING } from "./bun-test.ts";

const ROOT = resolve(import.meta.dirname, "../..");

test("a test that passes at its second attempt only is flaky, by name, and fails unless it may be", async () => {
  const dir = `build/flaky-${crypto.randomUUID()}`;
  await mkdir(join(ROOT, dir), { recursive: true });
  await Bun.write(
    join(ROOT, dir, "once.test.ts"),
    `import { describe, expect, test } from "bun:test";
     describe("a > group", () => {
       test("once", async () => {
         const mark = Bun.file(import.meta.dirname + "/mark");
         const isSecond = await mark.exists();
         await mark.write("");
         expect(isSecond).toBe(true);
       });
     });
     test("never", () => expect(1).toBe(2));
     test("always", () => {});
     test.skipIf(true)("not", () => {});
     test.each([1, 2])("the same name", () => {});`,
  );
  try {
    const counts = await bunTest([`${dir}/once.test.ts`], { attempts: 2, isQuiet: true });

    expect(counts).toEqual({
      passed: 3,
      failed: 2,
      skipped: 1,
      flaky: [`${dir}/once.test.ts > a > group > once (not in tests/may-be-flaky.json: failed)`],
      failing: [
        `${dir}/once.test.ts > a > group > once: expect(received).toBe(expected) Expected: true Received: false`,
        `${dir}/once.test.ts > never: expect(received).toBe(expected) Expected: 2 Received: 1`,
      ],
    });
  } finally {
    await rm(join(ROOT, dir), { recursive: true });
  }
});

test("a file that can't be loaded, ends its process or has no test is a failure", async () => {
  const dir = `build/broken-${crypto.randomUUID()}`;
  await mkdir(join(ROOT, dir), { recursive: true });
  const bodies = {
    unloadable: 'import "./nowhere.ts";',
    killed: 'test("dies", () => process.kill(process.pid, "SIGKILL"));',
    empty: "",
    late: 'test("x", () => {}); afterAll(() => { throw new Error("late") });',
  };
  try {
    const failed: Record<string, number> = {};
    for (const [name, body] of Object.entries(bodies)) {
      const file = `${dir}/${name}.test.ts`;
      await Bun.write(
        join(ROOT, file),
        `import { afterAll, test } from "bun:test"; afterAll; test;\n${body}`,
      );
      failed[name] = (await bunTest([file], { isQuiet: true })).failed;
    }

    expect(failed).toEqual({ unloadable: 1, killed: 1, empty: 1, late: 1 });
  } finally {
    await rm(join(ROOT, dir), { recursive: true });
  }
});

test("a file that ends its worker is a failure, and those that others work at are not", async () => {
  const dir = `build/workers-${crypto.randomUUID()}`;
  await mkdir(join(ROOT, dir), { recursive: true });
  const bodies = {
    killed: 'test("dies", () => process.kill(process.pid, "SIGKILL"));',
    fine: 'test("lives", () => {});',
    failing: 'test("fails", () => { throw new Error("no") });',
  };
  try {
    const files = Object.keys(bodies).map((name) => `${dir}/${name}.test.ts`);
    for (const [index, body] of Object.values(bodies).entries()) {
      await Bun.write(join(ROOT, files[index] ?? ""), `import { test } from "bun:test";\n${body}`);
    }

    const { passed, failing } = await bunTest(files, { workers: 2, isQuiet: true });

    expect([passed, failing.map((what) => what.split(" > ")[0])]).toEqual([
      1,
      [files[0], files[2]],
    ]);
  } finally {
    await rm(join(ROOT, dir), { recursive: true });
  }
});

test("a test that may be flaky counts as passed and is named with the reason", () => {
  const counts = compare(
    "a.test.ts",
    new Map([["slow", "failed"]]),
    new Map([["slow", "passed"]]),
    new Map([["a.test.ts > slow", "the guest's clock is emulated"]]),
  );

  expect(counts).toEqual({
    ...NOTHING,
    passed: 1,
    flaky: ["a.test.ts > slow (the guest's clock is emulated)"],
  });
});

test("what a hook that failed kept from running counts as its second attempt says", () => {
  const counts = compare(
    "a.test.ts",
    new Map([["group > (unnamed)", "failed"]]),
    new Map([
      ["group > one", "passed"],
      ["group > two", "failed"],
    ]),
    new Map(),
  );

  expect([counts.passed, counts.failed, counts.flaky.length]).toEqual([1, 2, 1]);
});

test("a test that failed counts as failed when a hook keeps it from a second attempt", () => {
  const counts = compare(
    "a.test.ts",
    new Map([["one", "failed"]]),
    new Map([["(unnamed)", "failed"]]),
    new Map(),
  );

  expect(counts).toEqual({
    ...NOTHING,
    failed: 2,
    failing: ["a.test.ts > one", "a.test.ts > (unnamed)"],
  });
});

test("every test that may be flaky is there, and says why", async () => {
  const missing: string[] = [];
  for (const [test, reason] of await mayBeFlaky()) {
    const [file = "", ...names] = test.split(" > ");
    const source = Bun.file(join(ROOT, file));
    const text = (await source.exists()) ? await source.text() : "";
    if (!text.includes(names.at(-1) ?? "") || reason.length < 20) missing.push(test);
  }

  expect(missing).toEqual([]);
});
