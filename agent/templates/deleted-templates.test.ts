// A create of a template that comes after its delete: late on its way, or at an agent that was started since.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failpoints } from "../failpoints.ts";
import { Journal } from "../journal/journal.ts";
import { SnapshotError } from "../snapshots/snapshot-error.ts";
import { MemoryTemplates } from "./memory-templates.ts";

const IDS = {
  teamId: "00000000-0000-0000-0000-000000000001",
  templateId: "00000000-0000-0000-0000-000000000002",
};

let dir: string;
let journal: Journal;
let removing: PromiseWithResolvers<void>;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-deleted-"));
  journal = new Journal(join(dir, "journal.db"));
  removing = Promise.withResolvers();
  removing.resolve();
});
afterEach(async () => {
  journal[Symbol.dispose]();
  await rm(dir, { recursive: true });
});

/** With nothing in its directory. */
function open(): MemoryTemplates {
  const missing = () => Promise.reject(new SnapshotError("not_found", "there is none"));
  return new MemoryTemplates({
    imagesDir: join(dir, "images"),
    snapshots: { load: missing, publish: missing, remove: () => removing.promise },
    failpoints: new Failpoints(null),
    journal,
    now: () => new Date(),
  });
}

/** What is asked for memory only when it may be made. */
async function make(templates: MemoryTemplates): Promise<{ code: unknown; isAsked: boolean }> {
  let isAsked = false;
  const fill = async () => {
    isAsked = true;
    throw new Error("nothing was captured");
  };
  const error = await templates.make(IDS, "operation", fill).catch((error: unknown) => error);
  return { code: error instanceof Error && "code" in error ? error.code : null, isAsked };
}

test("is refused, and no memory is captured for it", async () => {
  const templates = open();
  expect(await make(templates)).toEqual({ code: null, isAsked: true });

  await templates.remove(IDS);

  expect(await make(templates)).toEqual({ code: "aborted", isAsked: false });
  expect(await readdir(dir)).not.toContain("images");
});

test("is refused by the next agent, too", async () => {
  await open().remove(IDS);
  journal[Symbol.dispose]();
  journal = new Journal(join(dir, "journal.db"));

  expect(await make(open())).toEqual({ code: "aborted", isAsked: false });
});

test("is refused while the delete is at it, and may come if that cannot be done", async () => {
  const templates = open();
  removing = Promise.withResolvers();
  const removal = templates.remove(IDS);

  const meanwhile = await make(templates);
  removing.reject(new Error("the disk is gone"));
  await expect(removal).rejects.toThrow("the disk is gone");

  expect(meanwhile).toEqual({ code: "aborted", isAsked: false });
  expect(await make(templates)).toEqual({ code: null, isAsked: true });
});
