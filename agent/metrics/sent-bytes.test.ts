import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Log } from "../log.ts";
import { SentBytes } from "./sent-bytes.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-sent-"));
});
afterEach(() => rm(dir, { recursive: true }));

const log = new Log({ level: "error", write: () => {} });
const open = () => new SentBytes({ dir: join(dir, "sent"), procDir: dir, linksDir: dir, log });

/** Links as the kernel tells of them: their names, indexes, and what came in. */
async function links(...all: readonly (readonly [string, number, number])[]): Promise<void> {
  await mkdir(join(dir, "net"), { recursive: true });
  const lines = all.map(([name, , received]) => `${name}: ${received} 1 0 0 0 0 0 0 999999 1 0 0`);
  await writeFile(join(dir, "net/dev"), `Inter-|   Receive\n face |bytes\n${lines.join("\n")}\n`);
  for (const [name, index] of all) {
    await mkdir(join(dir, name), { recursive: true });
    await writeFile(join(dir, name, "ifindex"), `${index}\n`);
  }
}

const A = { id: "cl-a", link: "wv-test-1" };

test("what a link received is what its capsule sent", async () => {
  const sent = open();
  await links(["lo", 1, 77], ["wv-test-1", 5, 1000], ["wv-test-12", 6, 50]);

  sent.take([A, { id: "cl-b", link: "wv-test-12" }, { id: "cl-c", link: null }]);
  expect(["cl-a", "cl-b", "cl-c"].map((id) => sent.of(id))).toEqual([1000, 50, null]);
});

test("a pause and a resume with another link of the same name, or of another, add up", async () => {
  const sent = open();
  await links(["wv-test-1", 5, 1000]);
  sent.take([A]);
  await links();
  sent.take([]);
  const resting = sent.of("cl-a");
  // More than the one before had counted.
  await links(["wv-test-1", 6, 3000]);
  sent.take([A]);
  const same = sent.of("cl-a");
  sent.take([]);
  await links(["wv-test-2", 7, 10]);
  sent.take([{ ...A, link: "wv-test-2" }]);

  expect([resting, same, sent.of("cl-a")]).toEqual([1000, 4000, 4010]);
});

test("an agent that ends, and one that crashes, leave nothing out of what runs on", async () => {
  await links(["wv-test-1", 5, 1000]);
  const first = open();
  first.take([A]);
  await links(["wv-test-1", 5, 1500]);
  const afterCrash = open();
  afterCrash.take([A]);
  afterCrash.save();
  await links(["wv-test-1", 5, 1700]);
  const afterEnd = open();
  const before = afterEnd.of("cl-a");
  afterEnd.take([A]);

  expect([afterCrash.of("cl-a"), before, afterEnd.of("cl-a")]).toEqual([1500, 1500, 1700]);
});

test("what a capsule that is gone has sent is forgotten", async () => {
  const sent = open();
  await links(["wv-test-1", 5, 1000]);
  sent.take([A]);
  sent.take([]);
  sent.keepOnly(new Set(["cl-a"]));
  const kept = await readdir(join(dir, "sent"));
  sent.keepOnly(new Set());

  expect([kept, await readdir(join(dir, "sent"))]).toEqual([["cl-a"], []]);
  expect(sent.of("cl-a")).toBeNull();
});
