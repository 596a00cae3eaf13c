import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkUidRange, UID_BASE_DEFAULT } from "./uid-range.ts";

/** A second user's range, as useradd gives it: the range of before lay in it. */
const SUBUID = "ada:100000:65536\nbob:165536:65536\n";
const WHOLE = "         0          0 4294967295\n";

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "wrenn-uids-"));
  await mkdir(join(root, "etc"));
  await mkdir(join(root, "proc/self"), { recursive: true });
  await files({ "proc/self/uid_map": WHOLE, "proc/self/gid_map": WHOLE });
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

async function files(texts: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(texts)) await writeFile(join(root, name), text);
}

test("this machine's users have none of the ids", async () => {
  await checkUidRange(UID_BASE_DEFAULT);
});

test("a range that a user has for containers is refused, naming the user", async () => {
  await files({ "etc/subuid": SUBUID, "etc/subgid": SUBUID });

  await checkUidRange(UID_BASE_DEFAULT, root);
  await expect(checkUidRange(210_000, root)).rejects.toThrow(
    "WRENN_UID_BASE: ids 210000 to 275535, which microVMs would run as, overlap those of bob in /etc/subuid",
  );
});

test.each([
  ["etc/passwd", "eve:x:2100065535:100::/home/eve:/bin/sh\n"],
  ["etc/group", "staff:x:2100000000:\n"],
  ["etc/subgid", "eve:2099999999:2\n"],
])("an id of the range in /%s is refused", async (name, text) => {
  await files({ [name]: `# comment\n\nroot:x:0:0::/root:/bin/sh\n${text}` });

  await expect(checkUidRange(UID_BASE_DEFAULT, root)).rejects.toThrow(`in /${name}`);
});

test("ids on either side of the range are nobody's business", async () => {
  await files({ "etc/passwd": "a:x:2099999999:1::/:/\nb:x:2100065536:1::/:/\n" });

  await checkUidRange(UID_BASE_DEFAULT, root);
});

test("a container without these ids is told so", async () => {
  await files({ "proc/self/uid_map": "0 100000 65536\n" });

  await expect(checkUidRange(UID_BASE_DEFAULT, root)).rejects.toThrow("in this user namespace");
});
