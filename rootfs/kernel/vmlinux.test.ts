import { describe, expect, test } from "bun:test";
import { kernelVersion } from "./apt.ts";
import { extractVmlinux } from "./vmlinux.ts";

const ELF = Buffer.concat([Buffer.from("\x7fELF", "latin1"), Buffer.alloc(4096, 7)]);

/** A bzImage with one setup sector, holding the given compressed payload. */
function bzImage(payload: Uint8Array, size: number): Buffer {
  const header = Buffer.alloc(1024);
  header.writeUInt8(1, 0x1f1);
  header.write("HdrS", 0x202);
  header.writeUInt32LE(16, 0x248);
  header.writeUInt32LE(payload.length + 4, 0x24c);
  const end = Buffer.alloc(4);
  end.writeUInt32LE(size);
  return Buffer.concat([header, Buffer.alloc(16), payload, end]);
}

describe("a vmlinux", () => {
  test.each([
    ["gzip", Bun.gzipSync(new Uint8Array(ELF))],
    ["zstd", Bun.zstdCompressSync(ELF)],
    // As the kernel's build packs it: -l is the legacy frame.
    ["lz4", Bun.spawnSync(["lz4", "-l", "-c"], { stdin: ELF }).stdout],
  ])("comes out of a bzImage packed with %s", async (_name, payload) => {
    const vmlinux = await extractVmlinux(bzImage(payload, ELF.length));

    expect(Buffer.from(vmlinux).equals(ELF)).toBe(true);
  });

  test.each([
    ["no bzImage", Buffer.alloc(4096), "no bzImage"],
    ["cut off", bzImage(Bun.gzipSync(new Uint8Array(ELF)), 1).subarray(0, 1050), "cut off"],
    ["no ELF", bzImage(Bun.zstdCompressSync(Buffer.alloc(100)), 100), "no ELF file"],
    ["of unknown packing", bzImage(Buffer.alloc(64, 1), 64), "in a way we don't know"],
    ["too large", bzImage(Buffer.alloc(64, 1), 0xffffffff), "claims 4294967295 bytes"],
  ])("is refused when the image is %s", async (_name, image, message) => {
    await expect(extractVmlinux(image)).rejects.toThrow(message);
  });
});

test("a kernel's version is the upstream part of its package's", () => {
  expect(kernelVersion("6.1.192-2")).toBe("6.1.192");
  expect(kernelVersion("1:6.12.9-1~bpo12+1")).toBe("6.12.9");
  expect(() => kernelVersion("6.1")).toThrow("odd version");
});
