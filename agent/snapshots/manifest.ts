// What a generation's directory says about itself: what it holds and what can run it.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { hasCode } from "../native/syscall-error.ts";
import { SavedDisk } from "../rootfs/saved-disk.ts";
import { readWhole } from "./durable-files.ts";
import { SnapshotError } from "./snapshot-error.ts";

export const MANIFEST = "manifest.json";
// Ids and file names: a manifest is about a kilobyte.
const MANIFEST_BYTES_MAX = 64 * 1024;
const LAYERS_MAX = 64;

const Text = Type.String({ maxLength: 300 });
const Size = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Sha256 = Type.String({ pattern: "^[0-9a-f]{64}$" });

/** A file that is read whole whenever the generation is loaded. */
const CheckedFile = Type.Object({
  name: Type.String({ pattern: "^[a-z0-9.-]{1,64}$" }),
  sizeBytes: Size,
  sha256: Sha256,
});

export const Manifest = Type.Object({
  version: Type.Literal(1),
  /** Of the capsule that was paused. */
  capsuleId: Text,
  generation: Size,
  /** Of the memory: the same in every copy of this generation, and in no other. */
  buildId: Type.String({ pattern: "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" }),
  pausedAt: Text,
  vmm: Type.Object({ name: Text, version: Text, accel: Text }),
  cpu: Text,
  /** Of the host's memory; 4096 where it is missing. */
  pageBytes: Type.Optional(Type.Integer({ minimum: 4096, maximum: 2 ** 30 })),
  hostKernel: Text,
  guestKernel: Text,
  shape: Type.Object({
    vcpus: Type.Integer({ minimum: 1, maximum: 1024 }),
    memoryMib: Type.Integer({ minimum: 1, maximum: 256 * 1024 }),
  }),
  /** Device state and the memory's header. */
  files: Type.Array(CheckedFile, { minItems: 2, maxItems: 16 }),
  layers: Type.Array(Type.String({ pattern: "^memory\\.[0-9a-f-]{36}$" }), {
    maxItems: LAYERS_MAX,
  }),
  disk: SavedDisk,
});
export type Manifest = Static<typeof Manifest>;

/** Writes the manifest, with a checksum of its own. */
export async function writeManifest(directory: string, manifest: Manifest): Promise<void> {
  const sha256 = hashText(JSON.stringify(manifest));
  const text = `${JSON.stringify({ manifest, sha256 })}\n`;
  await writeFile(join(directory, MANIFEST), text, { mode: 0o600, flush: true });
}

/** Throws SnapshotError: not_found if the directory has none, damaged if it is not whole. */
export async function readManifest(directory: string): Promise<Manifest> {
  const path = join(directory, MANIFEST);
  const bytes = await readWhole(path, MANIFEST_BYTES_MAX).catch((cause: unknown) => {
    if (cause instanceof RangeError) throw damaged(path, cause);
    if (!hasCode(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw new SnapshotError("not_found", `${directory} has no manifest`, { cause });
  });
  try {
    const parsed: unknown = JSON.parse(bytes.toString("utf8"));
    if (typeof parsed !== "object" || parsed === null) throw new Error("not an object");
    const manifest = "manifest" in parsed ? parsed.manifest : undefined;
    const sha256 = "sha256" in parsed ? parsed.sha256 : undefined;
    // Members keep their order, so the text that was hashed comes out again.
    if (hashText(JSON.stringify(manifest) ?? "") !== sha256) throw new Error("wrong checksum");
    return Value.Parse(Manifest, manifest);
  } catch (cause) {
    throw damaged(path, cause);
  }
}

function damaged(path: string, cause: unknown): SnapshotError {
  return new SnapshotError("damaged", `${path} is torn or was changed: ${cause}`, { cause });
}

function hashText(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}
