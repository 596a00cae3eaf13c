// Manifests from a generator: what was written is read back, and a file that was torn, cut or changed in any
// byte is damaged, in bounded memory, and never another manifest.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FUZZ_TIMEOUT_MS, fuzz, type Random } from "../../tests/harness/random.ts";
import { MANIFEST, type Manifest, readManifest, writeManifest } from "./manifest.ts";
import { SnapshotError } from "./snapshot-error.ts";

const TEXT = 'az09-. "\\\n\0ü日\u{1f600}';
const DAMAGE = '{}[]:,"\\\n\0 0123456789.eE-+_abcdef\x80\xff';

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wrenn-manifest-"));
});

afterAll(() => rm(directory, { recursive: true }));

function uuidOf(random: Random): string {
  return random
    .bytes(16)
    .toString("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function manifestOf(random: Random): Manifest {
  const text = () => random.text(TEXT, random.size(60));
  const size = () => random.size(2 ** 32 - 1) * (random.oneIn(4) ? 2 ** 20 : 1);
  return {
    version: 1,
    capsuleId: text(),
    generation: size(),
    buildId: uuidOf(random),
    pausedAt: text(),
    vmm: { name: text(), version: text(), accel: text() },
    cpu: text(),
    hostKernel: text(),
    guestKernel: text(),
    shape: { vcpus: 1 + random.below(1024), memoryMib: 1 + random.below(256 * 1024) },
    files: Array.from({ length: 2 + random.below(15) }, () => ({
      name: random.text("az09.-", 1 + random.below(64)),
      sizeBytes: size(),
      sha256: random.bytes(32).toString("hex"),
    })),
    layers: random.list(64, () => `memory.${uuidOf(random)}`),
    disk: random.oneIn(2)
      ? { name: "disk.ext4", sizeBytes: 1 + size() }
      : {
          name: "disk.cow",
          sizeBytes: 1 + size(),
          cowBytes: 1 + size(),
          base: {
            name: "disk.base",
            sizeBytes: 1 + size(),
            sha256: random.bytes(32).toString("hex"),
          },
        },
  };
}

/** The manifest, or the code of what is wrong. */
async function read(): Promise<Manifest | string> {
  try {
    return await readManifest(directory);
  } catch (error) {
    if (error instanceof SnapshotError) return error.code;
    throw error;
  }
}

test(
  "a manifest is read as it was written",
  () =>
    fuzz(async (random) => {
      const manifest = manifestOf(random);

      await writeManifest(directory, manifest);

      expect(await read()).toEqual(manifest);
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "a manifest that was changed or cut is damaged, or says the same",
  () =>
    fuzz(async (random) => {
      const manifest = manifestOf(random);
      await writeManifest(directory, manifest);
      const path = join(directory, MANIFEST);
      const text = await readFile(path);
      const isCut = random.oneIn(4);
      // All but its line end.
      const end = random.below(text.length - 1);
      await writeFile(path, isCut ? text.subarray(0, end) : random.damaged(text, DAMAGE));

      // Blanks between its members say nothing.
      expect([manifest, "damaged"]).toContainEqual(await read());
      if (isCut) expect(await read()).toBe("damaged");
    }),
  FUZZ_TIMEOUT_MS,
);

test("a manifest as long as a disk is damaged, and is not read into memory", async () => {
  const path = join(directory, MANIFEST);
  await writeFile(path, "");
  await truncate(path, 64 * 2 ** 30);

  expect(await read()).toBe("damaged");
});
