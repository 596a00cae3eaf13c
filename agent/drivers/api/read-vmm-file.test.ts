import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readVmmFile } from "./read-vmm-file.ts";

let dir = "";
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vmm-file-"));
  await writeFile(join(dir, "state"), "12345678");
  await writeFile(join(dir, "empty"), "");
  await symlink("state", join(dir, "link"));
  await Bun.$`mkfifo ${join(dir, "pipe")}`.quiet();
});
afterAll(() => rm(dir, { recursive: true }));

const read = (path: string, bytesMax = 8) => readVmmFile(path, { what: "The state", bytesMax });

test("a file within its bound is read whole", async () => {
  expect((await read(join(dir, "state"))).toString()).toBe("12345678");
});

test.each([
  ["state", 7, "The state has 8 bytes"],
  ["empty", 8, "The state has 0 bytes"],
  ["pipe", 8, "The state has 0 bytes"],
  ["link", 8, "ELOOP"],
])("of a VMM's %s with at most %d bytes it says what is wrong", async (name, bytesMax, message) => {
  await expect(read(join(dir, name), bytesMax)).rejects.toThrow(message);
});

// The kernel says that it has a page, and gives less.
test("a file that ends before its size is refused", async () => {
  await expect(read("/sys/kernel/uevent_seqnum", 4096)).rejects.toThrow("The state ends early");
});
