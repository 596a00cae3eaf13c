// The guest agent's bundle: it needs nothing of the image it runs in, and is the same every time.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFile, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";

const SCRIPT = join(import.meta.dir, "build-envd.ts");
// Two builds of a hundred megabytes each.
setDefaultTimeout(120_000);

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "build-envd-test-"));
  await $`${process.execPath} ${SCRIPT} --bundle ${dir}/one`.quiet();
});
afterAll(() => rm(dir, { recursive: true }));

test("the same sources give the same bytes", async () => {
  await $`${process.execPath} ${SCRIPT} --bundle ${dir}/two`.quiet();

  const sums = async (bundle: string) => $`sha256sum *`.cwd(join(dir, bundle)).text();
  expect(await sums("two")).toBe(await sums("one"));
});

test("a root without any library runs it", async () => {
  const root = join(dir, "root");
  const target = join(root, "usr/lib/envd");
  await mkdir(target, { recursive: true });
  await mkdir(join(root, "proc"));
  for (const name of await readdir(join(dir, "one"))) {
    await copyFile(join(dir, "one", name), join(target, name));
  }
  // The runtime ends at once where /proc is not mounted; the mount goes with its namespace.
  const inside = `mount -t proc proc ${root}/proc && exec chroot ${root} /usr/lib/envd/envd --version`;

  expect(await $`unshare --mount sh -c ${inside}`.text()).toBe("0.6.13\n");
});
