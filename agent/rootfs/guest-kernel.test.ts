import { afterAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareVersions, findGuestKernel, isWhole } from "./guest-kernel.ts";

const ELF = "\x7fELF and the rest";
const directories: string[] = [];

async function kernelsDir(files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "wrenn-kernels-"));
  directories.push(directory);
  for (const [name, content] of Object.entries(files))
    await writeFile(join(directory, name), content);
  return directory;
}

afterAll(async () => {
  for (const directory of directories) await rm(directory, { recursive: true });
});

describe("findGuestKernel", () => {
  test("takes the highest version by numbers, not by letters", async () => {
    const dir = await kernelsDir({ "vmlinux-6.9.12": ELF, "vmlinux-6.10.2": ELF, vmlinux: ELF });

    expect(await findGuestKernel(dir)).toEqual({
      vmlinux: join(dir, "vmlinux-6.10.2"),
      initrd: null,
      version: "6.10.2",
    });
  });

  test("takes the initrd of that very version", async () => {
    const dir = await kernelsDir({ "vmlinux-6.1.0": ELF, "initrd-6.1.0": "", "initrd-6.0.9": "" });

    expect((await findGuestKernel(dir)).initrd).toBe(join(dir, "initrd-6.1.0"));
  });

  test("falls back to a plain vmlinux, with a plain initrd", async () => {
    const dir = await kernelsDir({ vmlinux: ELF, initrd: "", "vmlinux-old": ELF });

    expect(await findGuestKernel(dir)).toEqual({
      vmlinux: join(dir, "vmlinux"),
      initrd: join(dir, "initrd"),
      version: "",
    });
  });

  test("says so when there is none, or no directory", async () => {
    const dir = await kernelsDir({ "bzImage-6.1.0": ELF, "vmlinux-6.1.0.old": ELF });

    await expect(findGuestKernel(dir)).rejects.toThrow(`There is no vmlinux in ${dir}`);
    await expect(findGuestKernel(join(dir, "no"))).rejects.toThrow("There is no vmlinux");
  });

  test("refuses a compressed kernel", async () => {
    const dir = await kernelsDir({ "vmlinux-6.1.0": "MZ a bzImage", "vmlinux-6.0.0": ELF });

    await expect(findGuestKernel(dir)).rejects.toThrow("not an uncompressed ELF kernel");
  });
});

test("versions are compared part by part, a longer one is the later", () => {
  const versions = ["6.10", "6.9.9", "10.0", "6.10.1", "6.2"];

  expect(versions.sort(compareVersions)).toEqual(["6.2", "6.9.9", "6.10", "6.10.1", "10.0"]);
});

test("a file is whole if it is what its hash says, and neither without one", async () => {
  const sha256 = new Bun.CryptoHasher("sha256").update(ELF).digest("hex");
  const dir = await kernelsDir({ vmlinux: ELF, "vmlinux.sha256": `${sha256}  vmlinux\n` });
  const path = join(dir, "vmlinux");

  expect(await isWhole(path)).toBe(true);
  await writeFile(path, ELF.slice(0, -1));
  expect(await isWhole(path)).toBe(false);
  await rm(`${path}.sha256`);
  expect(await isWhole(path)).toBe(null);
});
