// How many directories can be watched, by the memory of the guest.
import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WatchBudget } from "./watch-budget.ts";

const MIB = 1024 * 1024;

test("the limit rises with the memory and is never lowered", async () => {
  const dir = await mkdtemp(join(tmpdir(), "watch-budget-"));
  const file = join(dir, "max_user_watches");
  const budget = new WatchBudget(dir);
  const raised = async (before: number, memoryMib: number) => {
    await Bun.write(file, `${before}\n`);
    budget.raise(memoryMib * MIB);
    return [Number(await Bun.file(file).text()), budget.perWatch()];
  };

  expect([
    await raised(8192, 128),
    await raised(8192, 512),
    await raised(100_000, 1024),
    await raised(8192, 64 * 1024),
    await raised(1, 0),
  ]).toEqual([
    [8192, 4096],
    [32_768, 16_384],
    [100_000, 50_000],
    [1_048_576, 524_288],
    [1, 1],
  ]);
  await rm(dir, { recursive: true });
});
