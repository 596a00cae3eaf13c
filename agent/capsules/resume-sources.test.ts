// What a resume starts from when the memory of the last pause cannot be used.

import { expect, test } from "bun:test";
import { IncompatibleError, SnapshotError } from "../snapshots/snapshot-error.ts";
import { type ResumeParts, type ResumeSource, resumeSources } from "./resume-sources.ts";

const PAUSE = { generation: 0, diskGeneration: 0, durableAtMs: 1 };

/** The kinds of sources of a capsule with a disk, whose only memory is refused so. */
async function kindsOf(refusal: Error, from: ResumeSource = null): Promise<string[]> {
  const parts: ResumeParts = {
    disks: { list: async () => ["cl-1"], canSetAside: async () => true },
    snapshots: {
      listOf: async () => [{ number: 0, directory: "/snapshots/cl-1/0" }],
      load: () => Promise.reject(refusal),
    },
    log: { error: () => {} },
  };
  const spec = { id: "cl-1", accessToken: "" };
  const sources = await Array.fromAsync(resumeSources(parts, spec, { from, pause: PAUSE }));
  return sources.map(({ kind }) => kind);
}

const OTHER = new IncompatibleError("/snapshots/cl-1/0", "made with a, and here is b");

test("a memory that is damaged leaves the disk", async () => {
  expect(await kindsOf(new SnapshotError("damaged", "torn"))).toEqual(["disk"]);
});

// It is not lost: the disk must not go on without it because an operator installed another VMM.
test("a memory that only another host can use is refused with what differs, unless the disk is asked for", async () => {
  for (const from of [null, "memory"] as const) {
    await expect(kindsOf(OTHER, from)).rejects.toThrow(
      "This host cannot resume the capsule's memory, which was made with a, and here is b; its disk can be booted",
    );
  }
  expect(await kindsOf(OTHER, "disk")).toEqual(["disk"]);
});
