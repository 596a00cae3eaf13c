import { expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clockAdvanceNs, writeHostname } from "./renewal.ts";

const now = (offsetMs: number) => BigInt(Date.now() + offsetMs) * 1_000_000n;

test("what the host measured moves the clock, whatever time its message bears", () => {
  const timestampNs = now(-600_000);

  expect([
    clockAdvanceNs({ clockAdvanceUs: 3_600_000_000, timestampNs }),
    clockAdvanceNs({ clockAdvanceUs: 5_001, timestampNs }),
    clockAdvanceNs({ clockAdvanceUs: -20_001, timestampNs }),
  ]).toEqual([3_600_000_000_000n, 5_001_000n, -20_001_000n]);
});

test("a clock that is close is left alone, above all one that is ahead", () => {
  expect([
    clockAdvanceNs({ clockAdvanceUs: 5_000 }),
    clockAdvanceNs({ clockAdvanceUs: 0 }),
    clockAdvanceNs({ clockAdvanceUs: -20_000 }),
    clockAdvanceNs({}),
  ]).toEqual([null, null, null, null]);
});

test("a message that only bears a time moves the clock to it, and back only by much", () => {
  const advanceMs = (offsetMs: number) => {
    const advanceNs = clockAdvanceNs({ timestampNs: now(offsetMs) });
    return advanceNs === null ? null : Number(advanceNs / 1_000_000n);
  };

  expect(advanceMs(60_000)).toBeWithin(59_000, 60_001);
  expect(advanceMs(-60_000)).toBeWithin(-61_000, -59_999);
  expect([advanceMs(0), advanceMs(-3_000)]).toEqual([null, null]);
});

test("of a longer name nothing is left, and what else is in the hosts file stays", async () => {
  const etcDir = await mkdtemp(join(tmpdir(), "etc-"));
  const contents = () =>
    Promise.all(["hostname", "hosts"].map((name) => readFile(join(etcDir, name), "utf8")));
  const others = "127.0.0.1\tlocalhost\n10.0.0.1\tbüro\n";
  await writeFile(join(etcDir, "hosts"), others);

  const seen: string[][] = [];
  for (const name of ["a-longer-name", "short"]) {
    writeHostname(name, etcDir);
    seen.push(await contents());
  }
  await rm(etcDir, { recursive: true });

  expect(seen).toEqual([
    ["a-longer-name\n", `${others}127.0.1.1\ta-longer-name\n`],
    ["short\n", `${others}127.0.1.1\tshort\n`],
  ]);
});
