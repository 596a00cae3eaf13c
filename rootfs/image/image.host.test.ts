// What is, and is not, in the base image that was built. Read with debugfs: nothing is mounted.

import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { run } from "../run.ts";
import { RECIPES } from "./recipes.ts";
import { sparseSha256 } from "./sparse-sha256.ts";

const DIR = resolve(import.meta.dirname, "../../build/rootfs");
const IMAGE = join(DIR, "minimal-debian.ext4");

/** Hashing 5 GiB takes 3 s on an idle machine. */
const HASH_TIMEOUT_MS = 60_000;

/** Programs that run as another user than the caller's, with Debian's reasons for each. */
const SET_ID = [
  "/usr/bin/chage",
  "/usr/bin/chfn",
  "/usr/bin/chsh",
  "/usr/bin/expiry",
  "/usr/bin/gpasswd",
  "/usr/bin/mount",
  "/usr/bin/newgrp",
  "/usr/bin/passwd",
  "/usr/bin/su",
  "/usr/bin/sudo",
  "/usr/bin/umount",
  "/usr/sbin/unix_chkpwd",
];

const debugfs = (command: string) => run(["debugfs", "-R", command, IMAGE]);
const cat = (path: string) => debugfs(`cat ${path}`);

/** Names in a directory of the image with their modes in octal. */
async function list(path: string): Promise<{ name: string; mode: number }[]> {
  const lines = (await debugfs(`ls -p ${path}`)).split("\n").filter((line) => line !== "");
  return lines
    .map((line) => line.split("/"))
    .map(([, , mode = "", , , name = ""]) => ({ name, mode: Number.parseInt(mode, 8) }))
    .filter(({ name }) => name !== "." && name !== "..");
}

test(
  "the hash beside the image is the image's",
  async () => {
    const written = (await Bun.file(join(DIR, "minimal-debian.sha256")).text()).trim();

    const work = await mkdtemp(join(tmpdir(), "wrenn-image-test-"));
    try {
      expect(await sparseSha256(IMAGE, work)).toBe(written);
    } finally {
      await rm(work, { recursive: true });
    }
  },
  HASH_TIMEOUT_MS,
);

test("every package of the recipe is installed", async () => {
  const status = await cat("/var/lib/dpkg/status");

  const installed = new Set(
    [
      ...status.matchAll(/^Package: (\S+)\n(?:Essential: yes\n)?Status: install ok installed$/gm),
    ].map((m) => m[1]),
  );
  const missing = RECIPES["minimal-debian"]?.packages.filter((name) => !installed.has(name));
  expect(missing).toEqual([]);
});

test("root and wrenn-user have homes and no password, and wrenn-user may sudo without one", async () => {
  const users = (await cat("/etc/passwd")).split("\n");
  const passwords = (await cat("/etc/shadow")).trim().split("\n");

  expect(users).toContain("root:x:0:0:root:/root:/bin/bash");
  expect(users).toContain("wrenn-user:x:1000:1000::/home/wrenn-user:/bin/bash");
  expect(passwords.filter((line) => !/^[^:]+:[!*]+:/.test(line))).toEqual([]);
  expect(await debugfs("stat /home/wrenn-user")).toMatch(/User: +1000 +Group: +1000/);
  expect(await cat("/etc/sudoers.d/wrenn-user")).toBe("wrenn-user ALL=(ALL:ALL) NOPASSWD: ALL\n");
  expect(await debugfs("stat /etc/sudoers.d/wrenn-user")).toContain("Mode:  0440");
});

test("only Debian's own programs change the user, and the platform's files are root's", async () => {
  const found: string[] = [];
  for (const dir of ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/lib/envd"]) {
    for (const { name, mode } of await list(dir)) {
      if ((mode & 0o6000) !== 0) found.push(`${dir}/${name}`);
    }
  }

  expect(found.sort()).toEqual(SET_ID);
  expect(await debugfs("stat /usr/local/bin/wrenn-init")).toMatch(/Mode: +0755[\s\S]*User: +0 /);
  expect(await debugfs("stat /usr/lib/envd/envd")).toMatch(/Mode: +0755[\s\S]*User: +0 /);
  expect(await debugfs("stat /usr/local/bin/envd")).toContain('dest: "/usr/lib/envd/envd"');
});

test("nothing tells when or where it was built", async () => {
  expect(await cat("/etc/machine-id")).toBe("");
  for (const path of ["/var/log", "/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys"]) {
    expect({ path, names: await list(path) }).toEqual({ path, names: [] });
  }
  const etc = (await list("/etc")).map(({ name }) => name);
  expect(etc.filter((name) => /^(hostname|resolv\.conf)$|-$/.test(name))).toEqual([]);
  const lists = (await list("/var/lib/apt/lists")).map(({ name }) => name);
  expect(lists.filter((name) => name !== "lock" && name !== "partial")).toEqual([]);
});
