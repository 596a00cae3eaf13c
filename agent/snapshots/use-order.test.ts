// Caches whose entries are used while the clock is set: hours ahead, and back.

import { afterEach, beforeEach, expect, setSystemTime, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UseOrder } from "./use-order.ts";

const HOUR_MS = 3_600_000;
const NAMES = ["a", "b", "c", "d"];

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-use-order-"));
  for (const name of NAMES) await writeFile(join(dir, name), "");
});
afterEach(async () => {
  setSystemTime();
  await rm(dir, { recursive: true });
});

const setClock = (byMs: number) => setSystemTime(new Date(Date.now() + byMs));

test.each([
  ["back", -HOUR_MS],
  ["ahead", HOUR_MS],
  ["nowhere", 0],
])("a clock that is set %s changes no order", async (_, byMs) => {
  const order = new UseOrder(dir);

  for (const name of ["c", "a", "d", "b"]) {
    await order.use(name);
    setClock(byMs);
  }
  await order.use("c");

  expect(await order.sort(NAMES)).toEqual(["a", "d", "b", "c"]);
});

test("uses at once and those of the next agent come behind", async () => {
  setClock(HOUR_MS);
  const first = new UseOrder(dir);
  for (const name of ["d", "b"]) await first.use(name);
  setSystemTime();

  const second = new UseOrder(dir);
  await Promise.all([second.use("c"), second.use("a")]);

  expect(await second.sort(NAMES)).toEqual(["d", "b", "c", "a"]);
});

test("what has gone is neither used nor named", async () => {
  const order = new UseOrder(join(dir, "later"));

  await order.use("a");
  await mkdir(join(dir, "later"));
  await writeFile(join(dir, "later/b"), "");
  await order.use("b");

  expect(await order.sort(["a", "b"])).toEqual(["b"]);
});
