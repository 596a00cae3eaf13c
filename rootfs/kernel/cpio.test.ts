import { expect, test } from "bun:test";
import { cpioArchive } from "./cpio.ts";

const ENTRIES = [
  { path: "dev", mode: 0o040755 },
  { path: "dev/console", mode: 0o020600, device: { major: 5, minor: 1 } },
  { path: "init", mode: 0o100755, data: Buffer.from("#!\n") },
  { path: "empty", mode: 0o100644, data: new Uint8Array() },
];

test("an archive has the layout the kernel reads", () => {
  const archive = Buffer.from(
    cpioArchive([{ path: "ab", mode: 0o100644, data: Buffer.from("x") }]),
  );

  expect(archive.toString("latin1", 0, 120)).toBe(
    "070701" +
      ["00000001", "000081a4", "00000000", "00000000", "00000001", "00000000", "00000001"].join(
        "",
      ) +
      ["00000000", "00000000", "00000000", "00000000", "00000003", "00000000"].join("") +
      "ab\0\0\0\0x\0\0\0",
  );
  expect(archive.length % 4).toBe(0);
  expect(archive.toString("latin1")).toContain("TRAILER!!!\0");
});

test("the same entries give the same bytes", () => {
  expect(Bun.hash(cpioArchive(ENTRIES))).toBe(Bun.hash(cpioArchive(ENTRIES)));
});
