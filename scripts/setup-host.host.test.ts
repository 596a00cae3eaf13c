// A host is set up in a tree of its own, from a repository with small files in the place of what is built.
// That it makes a host is seen on one: tests/host-rig/host-life/setup.dm.test.ts.

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import {
  appendFile,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { join, resolve } from "node:path";
import { encodeUuid } from "../proto/ids.ts";

const REPOSITORY = resolve(import.meta.dirname, "..");
const PROGRAMS = [
  "wrenn-agent",
  "libwrenn.so",
  "keeper",
  "pager",
  "wrenn-preload.so",
  "accel-probe.bin",
];
const PLATFORM_TEAM = "00000000-0000-0000-0000-000000000000";
const MINIMAL_DEBIAN = "00000000-0000-0000-0000-000000000004";
/** Some dozens of files are synced, each of which waits for what else a busy disk does. */
const TIMEOUT_MS = 180_000;
const IMAGE = "an image";
const SHA256 = new Bun.CryptoHasher("sha256").update(IMAGE).digest("hex");

let base: string;
let from: string;
let root: string;
let trees = 0;

beforeAll(async () => {
  base = await mkdtemp("/var/tmp/wrenn-setup-");
  from = join(base, "repository");
  for (const dir of ["scripts", "builds", "build/kernel", "build/rootfs"]) {
    await mkdir(join(from, dir), { recursive: true });
  }
  await cp(join(REPOSITORY, "deploy"), join(from, "deploy"), { recursive: true });
  await cp(join(REPOSITORY, "scripts/setup-host.sh"), join(from, "scripts/setup-host.sh"));
  for (const name of PROGRAMS)
    await writeFile(join(from, "builds", name), `#!/bin/sh\n# ${name}\n`);
  await writeFile(join(from, "build/kernel/vmlinux-6.1.0"), "a kernel");
  await writeFile(join(from, "build/kernel/initrd-6.1.0"), "its initrd");
  await writeFile(join(from, "build/rootfs/minimal-debian.ext4"), IMAGE);
  await writeFile(join(from, "build/rootfs/minimal-debian.sha256"), `${SHA256}\n`);
});
beforeEach(async () => {
  root = join(base, `tree-${trees++}`);
  await mkdir(join(root, "etc/logrotate.d"), { recursive: true });
  await writeFile(join(root, "etc/hostname"), "before\n");
});
afterAll(() => rm(base, { recursive: true }));

async function setUp(...args: string[]) {
  const script = join(from, "scripts/setup-host.sh");
  const result = await Bun.$`${script} --root ${root} ${args}`.nothrow().quiet();
  return {
    status: result.exitCode,
    lines: result.stdout.toString().trim().split("\n"),
    error: result.stderr.toString(),
  };
}

/** Everything below the tree: mode and content, by path. Directories that are empty, too. */
async function look(): Promise<Record<string, string>> {
  const seen: Record<string, string> = {};
  for (const name of (await readdir(root, { recursive: true })).sort()) {
    const path = join(root, name);
    const found = await lstat(path);
    const mode = (found.mode & 0o7777).toString(8);
    if (found.isSymbolicLink()) seen[name] = `-> ${await readlink(path)}`;
    else if (found.isDirectory()) seen[name] = `directory ${mode}`;
    else seen[name] = `${mode} ${await readFile(path, "utf8")}`;
  }
  return seen;
}

/** Lines that say something was or would be done. */
const deeds = (lines: readonly string[]) =>
  lines.filter((line) => !/install these yourself|take effect when it boots/.test(line));

test(
  "a tree gets all that a host has, and a second run finds nothing to do",
  async () => {
    const first = await setUp();
    const after = await look();
    const second = await setUp();

    expect([first.status, first.error]).toEqual([0, ""]);
    expect(after).toMatchObject({
      "etc/systemd/system/multi-user.target.wants/wrenn-agent.service":
        "-> /etc/systemd/system/wrenn-agent.service",
      "etc/wrenn/agent.env": expect.stringMatching(/^600 /),
      "etc/sysctl.d/60-wrenn.conf": expect.stringContaining("net.ipv4.ip_forward = 1"),
      "usr/local/bin/wrenn-agent": "-> /usr/local/lib/wrenn/wrenn-agent",
      "usr/local/lib/wrenn/keeper": expect.stringMatching(/^755 /),
      "var/lib/wrenn": "directory 711",
      "var/lib/wrenn/kernels/vmlinux-6.1.0": "644 a kernel",
      "var/lib/wrenn/kernels/initrd-6.1.0.sha256": expect.stringContaining("  initrd-6.1.0\n"),
      [`var/lib/wrenn/images/blobs/${SHA256}.ext4`]: `444 ${IMAGE}`,
    });
    expect([second.status, deeds(second.lines)]).toEqual([0, []]);
    expect(await look()).toEqual(after);
  },
  TIMEOUT_MS,
);

test(
  "the image is the one that the agent finds for the platform's template",
  async () => {
    await setUp();

    const home = join(
      "var/lib/wrenn/images/teams",
      encodeUuid(PLATFORM_TEAM),
      encodeUuid(MINIMAL_DEBIAN),
    );
    expect(await readFile(join(root, home, "rootfs.ext4"), "utf8")).toBe(IMAGE);
  },
  TIMEOUT_MS,
);

test(
  "removing leaves what was there, and what capsules are made of",
  async () => {
    const before = await look();
    await setUp();

    const { status, lines } = await setUp("--remove");

    const left = Object.keys(await look()).filter((name) => before[name] === undefined);
    expect(status).toBe(0);
    expect(lines).toContain("==> keep /var/lib/wrenn, which is not empty");
    expect(left.filter((name) => !/^var(\/lib(\/wrenn(\/.*)?)?)?$/.test(name))).toEqual([]);
    expect(left).toContain(`var/lib/wrenn/images/blobs/${SHA256}.ext4`);
    expect((await setUp("--remove")).lines).toEqual(["==> nothing was set up here"]);
  },
  TIMEOUT_MS,
);

test(
  "files that somebody changed, or had before, are neither replaced nor removed",
  async () => {
    await writeFile(join(root, "etc/logrotate.d/wrenn"), "of the administrator\n");
    await setUp();
    await appendFile(join(root, "etc/wrenn/agent.env"), "LOG_LEVEL=debug\n");
    const theirs = ["etc/logrotate.d/wrenn", "etc/wrenn/agent.env"];
    const read = () => Promise.all(theirs.map((name) => readFile(join(root, name), "utf8")));
    const before = await read();

    const again = await setUp();
    const removed = await setUp("--remove");

    expect(await read()).toEqual(before);
    expect(again.lines).toContain(
      "==> keep /etc/logrotate.d/wrenn, which is not as it was put there",
    );
    expect(removed.lines).toContain("==> keep /etc/wrenn/agent.env, which was changed");
  },
  TIMEOUT_MS,
);

test(
  "a newer program takes the place of the old one, which goes on where it runs",
  async () => {
    await setUp();
    const path = join(root, "usr/local/lib/wrenn/keeper");
    const old = await stat(path);
    await writeFile(join(from, "builds/keeper"), "#!/bin/sh\n# a newer keeper\n");

    const { lines } = await setUp();

    expect(deeds(lines)).toEqual(["==> put /usr/local/lib/wrenn/keeper"]);
    expect((await stat(path)).ino).not.toBe(old.ino);
    await setUp("--remove");
    expect(await stat(path).catch(() => null)).toBe(null);
  },
  TIMEOUT_MS,
);

test(
  "a dry run says all of it and does nothing",
  async () => {
    const before = await look();

    const { status, lines } = await setUp("--dry-run");
    const untouched = await look();
    await setUp();
    const whole = await look();
    const removal = await setUp("--dry-run", "--remove");

    expect([status, untouched]).toEqual([0, before]);
    expect(lines).toContain("==> would put /etc/wrenn/agent.env");
    expect(lines).toEqual([...new Set(lines)]);
    expect(removal.lines).toContain("==> would remove /etc/wrenn/agent.env");
    expect(await look()).toEqual(whole);
  },
  TIMEOUT_MS,
);

test(
  "what a run that was killed had only written down is no trouble to the next, nor to a removal",
  async () => {
    const intended = `file\t/etc/sysctl.d/60-wrenn.conf\t${"0".repeat(64)}\ndir\t/etc/wrenn\t\n`;
    await mkdir(join(root, "var/lib/wrenn-setup"), { recursive: true });
    await writeFile(join(root, "var/lib/wrenn-setup/done"), intended);

    expect((await setUp("--remove")).status).toBe(0);
    await mkdir(join(root, "var/lib/wrenn-setup"), { recursive: true });
    await writeFile(join(root, "var/lib/wrenn-setup/done"), intended);
    expect((await setUp()).status).toBe(0);
    expect(await readFile(join(root, "etc/sysctl.d/60-wrenn.conf"), "utf8")).toContain(
      "ip_forward",
    );
  },
  TIMEOUT_MS,
);

test(
  "an image that is damaged is refused, and programs and files that are missing are named",
  async () => {
    const image = join(from, "build/rootfs/minimal-debian.ext4");
    await writeFile(image, "another image");
    const damaged = await setUp();
    await writeFile(image, IMAGE);
    const pager = join(from, "builds/pager");
    const kept = await readFile(pager);
    await rm(pager);
    await rm(image);
    const missing = await setUp();
    await writeFile(pager, kept);
    await writeFile(image, IMAGE);

    expect([damaged.status, damaged.error]).toEqual([
      1,
      "Cannot set up: build/rootfs/minimal-debian.ext4 is damaged; make artifacts again.\n",
    ]);
    expect(
      await stat(join(root, `var/lib/wrenn/images/blobs/${SHA256}.ext4`)).catch(() => null),
    ).toBe(null);
    expect([missing.status, missing.error]).toEqual([
      1,
      `Cannot set up: ${from} lacks builds/pager build/rootfs/minimal-debian.ext4; run make artifacts build there.\n`,
    ]);
  },
  TIMEOUT_MS,
);

test(
  "systemd takes the unit as it is meant",
  async () => {
    await setUp();
    const unit = "/etc/systemd/system/wrenn-agent.service";
    // Not with --root, which wants the rest of a machine there, too.
    const copy = join(root, "wrenn-agent.service");
    const text = await readFile(join(root, unit), "utf8");
    const program = join(root, "usr/local/lib/wrenn/wrenn-agent");
    await writeFile(copy, text.replace("/usr/local/lib/wrenn/wrenn-agent", program));

    const verified = await Bun.$`systemd-analyze verify --man=no ${copy}`.nothrow().quiet();

    expect([verified.exitCode, verified.stderr.toString()]).toEqual([0, ""]);
    // Each of these would end capsules, or hide them from the next agent.
    expect(text).toContain("KillMode=process\n");
    expect(text).not.toMatch(
      /^(Protect(System|Home|KernelTunables|KernelLogs|ControlGroups)|Private\w+)=/m,
    );
  },
  TIMEOUT_MS,
);
