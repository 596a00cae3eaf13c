import { expect, test } from "bun:test";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { SmallDisk } from "../../tests/harness/small-disk.ts";
import { removeDirectory } from "./durable-files.ts";

// A directory that is as full as it can be without a block of its own has no room for a longer name.
test("a directory is removed on a full disk, however many there are beside it", async () => {
  await using disk = await SmallDisk.mount("320M");
  for (let count = 1; count <= 8; count += 1) {
    const parent = join(disk.path, `of-${count}`);
    const names = Array.from({ length: count }, () => `held.${crypto.randomUUID()}`);
    for (const name of names) await mkdir(join(parent, name), { recursive: true });
    const [first = "", ...others] = names;
    await disk.fillUp();

    await removeDirectory(join(parent, first));

    expect((await readdir(parent)).toSorted()).toEqual(others.toSorted());
    await disk.makeRoom();
  }
}, 60_000);
