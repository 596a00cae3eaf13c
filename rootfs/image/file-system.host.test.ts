// The image must not depend on when, where or in what order its files were laid down: hosts name
// images by their contents.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, lchown, mkdir, mkdtemp, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../run.ts";
import { makeFileSystem } from "./file-system.ts";
import { sparseSha256 } from "./sparse-sha256.ts";

const EPOCH = 1_700_000_000;
const OLDER = 1_600_000_000;
const RECIPE = {
  name: "test",
  sizeMib: 256,
  uuid: "8c7a5d5e-3d0e-4b3e-9a55-0f6d3a1c0001",
};

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-image-test-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A tree with files of all kinds, made in the given order, with times of its own. */
async function makeTree(name: string, order: readonly string[]): Promise<string> {
  const root = join(dir, name);
  await mkdir(join(root, "usr/bin"), { recursive: true });
  for (const file of order) {
    await writeFile(join(root, "usr/bin", file), file.repeat(3000));
    await utimes(join(root, "usr/bin", file), Date.now() / 1000, OLDER);
  }
  await writeFile(join(root, "made-by-the-build"), "x");
  await mkdir(join(root, "home"), { mode: 0o750 });
  await lchown(join(root, "home"), 1000, 1001);
  await writeFile(join(root, "usr/bin/sudo"), "s");
  await chmod(join(root, "usr/bin/sudo"), 0o4755);
  await utimes(join(root, "usr/bin/sudo"), OLDER, OLDER);
  await symlink("../bin/sudo", join(root, "usr/bin/link"));
  return root;
}

async function makeImage(root: string): Promise<string> {
  const work = await mkdtemp(join(dir, "work-"));
  const image = join(work, "image");
  await makeFileSystem({ root, image, epoch: EPOCH, work, recipe: RECIPE });
  return image;
}

const names = Array.from({ length: 200 }, (_, i) => `program-${i}`);
const debugfs = (image: string, command: string) => run(["debugfs", "-R", command, image]);

test("trees with the same contents make the same bytes", async () => {
  const first = await makeImage(await makeTree("a", names));
  await Bun.sleep(1100); // The clock's second must differ.
  const second = await makeImage(await makeTree("b", names.toReversed()));

  expect(await sparseSha256(second, dir)).toBe(await sparseSha256(first, dir));
});

test("a sparse file has the hash of all its bytes", async () => {
  const image = await makeImage(await makeTree("c", ["one"]));

  const whole = new Bun.CryptoHasher("sha256").update(await Bun.file(image).bytes()).digest("hex");

  expect(await sparseSha256(image, dir)).toBe(whole);
});

test("owners, permissions, links and times of packages are kept, and no time is later", async () => {
  const image = await makeImage(await makeTree("d", ["one"]));

  expect(await debugfs(image, "stat /home")).toMatch(
    /Mode: {2}0750[\s\S]*User: {2}1000 +Group: {2}1001/,
  );
  expect(await debugfs(image, "stat /usr/bin/sudo")).toContain("Mode:  04755");
  expect(await debugfs(image, "stat /usr/bin/link")).toContain('Fast link dest: "../bin/sudo"');
  expect(await debugfs(image, "stat /usr/bin/one")).toContain(`mtime: 0x${OLDER.toString(16)}`);
  expect(await debugfs(image, "stat /made-by-the-build")).toContain(
    `mtime: 0x${EPOCH.toString(16)}`,
  );
  const years = (await debugfs(image, "stats")).match(/\b20\d\d$/gm);
  expect(new Set(years)).toEqual(new Set(["2023"]));
});

test("it is sound, grows while mounted, and leaves a guest nothing to initialise", async () => {
  const image = await makeImage(await makeTree("e", names));

  await run(["e2fsck", "-fn", image]);
  const header = await run(["dumpe2fs", image]);

  const groups = header.match(/^Group \d+:/gm)?.length ?? 0;
  expect(header.match(/ITABLE_ZEROED/g)?.length).toBe(groups);
  expect(header).toMatch(/Filesystem features: .*\bhas_journal\b.*\bresize_inode\b/);
  expect(header).toMatch(/Reserved block count: +0\n/);
  const { blocks } = await Bun.file(image).stat();
  expect(blocks * 512).toBeLessThan(16 * 1024 * 1024);
});
