// The directory of a platform and its mounts, in the states that crashes and people leave them in.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  checkHome,
  closeDevDir,
  findDevDir,
  isStale,
  locateDevDir,
  openDevDir,
} from "./dev-dir.ts";
import { deletePlatform } from "./stop-platform.ts";

let parent: string;
let home: string;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "wrenn-dev-dir-"));
  home = join(parent, "dev");
});

afterEach(async () => {
  await closeDevDir(await locateDevDir(home));
  await rm(parent, { recursive: true });
});

/** Mount points of this platform. */
async function mounts(): Promise<string[]> {
  const { path } = await locateDevDir(home);
  const lines = (await Bun.file("/proc/self/mountinfo").text()).split("\n");
  return lines.map((line) => line.split(" ")[4] ?? "").filter((at) => at.startsWith(path));
}

test("nobody but root reads the image of all disks, or lists a directory", async () => {
  const { path, agentDir } = await openDevDir(home);
  // As an earlier version left it.
  if ((await mounts()).includes(agentDir)) {
    await closeDevDir(await locateDevDir(home));
    await Bun.$`chmod 0644 ${home}/agent.xfs`;
    await openDevDir(home);
    expect((await stat(join(path, "agent.xfs"))).mode & 0o777).toBe(0o600);
  }

  expect((await stat(path)).mode & 0o777).toBe(0o711);
  expect((await stat(agentDir)).mode & 0o777).toBe(0o711);
});

test("what is mounted below it is not seen below DEV_DIR, for whoever deletes that", async () => {
  const { agentDir } = await openDevDir(home);
  await mkdir(join(agentDir, "run"));
  await Bun.$`mount -t tmpfs tmpfs ${agentDir}/run`;
  await writeFile(join(agentDir, "run", "capsule"), "");

  const below = await Bun.$`find ${home} -name capsule`.text();

  expect(below).toBe("");
});

// A terminal in the directory, an editor, a `tail -f`.
test("a mount that somebody uses goes out of sight, is named with its user, and its data stays", async () => {
  const { agentDir } = await openDevDir(home);
  await writeFile(join(agentDir, "data"), "kept");
  await using user = Bun.spawn(["sleep", "600"], { cwd: agentDir });

  const notes = await closeDevDir(await locateDevDir(home));

  expect(await mounts()).toEqual([]);
  expect(notes.join("\n")).toContain(`sleep (pid ${user.pid})`);
  const again = await openDevDir(home);
  expect(await Bun.file(join(again.agentDir, "data")).text()).toBe("kept");
});

test("a directory that is deleted or moved while it is mounted is stale, and can be unmounted", async () => {
  await openDevDir(home);
  expect(await isStale(await locateDevDir(home))).toBe(false);

  await rename(home, `${home}-elsewhere`);
  expect(await isStale(await locateDevDir(home))).toBe(true);
  await mkdir(home);
  expect(await isStale(await locateDevDir(home))).toBe(true);

  expect(await findDevDir(home)).not.toBeNull();
  await closeDevDir(await locateDevDir(home));
  expect(await mounts()).toEqual([]);
  expect(await isStale(await locateDevDir(home))).toBe(false);
});

// Without its file system the agent would find an empty directory, and all capsules would be lost.
test("an image that can't be mounted is named, and nothing else takes its place", async () => {
  await mkdir(home);
  await writeFile(join(home, "agent.xfs"), "damaged");
  const hasReflinks = !(await needsImage());

  const opened = openDevDir(home);

  if (hasReflinks) await opened;
  else expect(opened).rejects.toThrow(/agent\.xfs can't be mounted .*make dev-reset/);
});

test("a directory that holds other files is refused, and nothing of it is deleted", async () => {
  await mkdir(join(home, "mail"), { recursive: true });
  await writeFile(join(home, "thesis.tex"), "");

  expect(checkHome(home)).rejects.toThrow("holds other files (thesis.tex)");
  expect(deletePlatform(home)).rejects.toThrow("holds other files (thesis.tex)");
  expect((await stat(join(home, "mail"))).isDirectory()).toBe(true);
});

test("what is behind a link is deleted, and the link leads to where the next one can be", async () => {
  const elsewhere = `${home}-elsewhere`;
  await mkdir(elsewhere);
  await symlink(elsewhere, home);
  await writeFile(join(home, "secrets.json"), "{}");

  await deletePlatform(home);

  expect(await readdir(home)).toEqual([]);
  expect(await readdir(elsewhere)).toEqual([]);
});

test("a file system that is mounted there is emptied", async () => {
  await mkdir(home);
  await Bun.$`mount -t tmpfs tmpfs ${home}`;
  await mkdir(join(home, "mail"));

  await deletePlatform(home);

  const left = await readdir(home);
  await Bun.$`umount ${home}`;
  expect(left).toEqual([]);
  await deletePlatform(home);
  expect(await stat(home).catch(() => null)).toBeNull();
});

test("a file is no directory for a platform", async () => {
  await writeFile(home, "");

  expect(checkHome(home)).rejects.toThrow(`DEV_DIR=${home} can't be used (ENOTDIR)`);
});

test("what a platform leaves in its directory is its own", async () => {
  await openDevDir(home);
  for (const name of ["secrets.json.new", "processes", "logs", "ports.json"]) {
    await writeFile(join(home, name), "");
  }

  await checkHome(home);
});

async function needsImage(): Promise<boolean> {
  const probe = join(parent, "probe");
  await writeFile(probe, "reflink");
  const { exitCode } = await Bun.$`cp --reflink=always ${probe} ${probe}.clone`.nothrow().quiet();
  return exitCode !== 0;
}
