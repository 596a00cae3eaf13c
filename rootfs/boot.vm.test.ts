// Boots the kernel, initrd and image that were built, with a probe in envd's place that prints what
// it finds and ends. What it prints is what envd and every program in a capsule will find.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { run } from "./run.ts";

const BUILD = resolve(import.meta.dirname, "../build");

/** A boot takes 2 s on an idle machine without hardware virtualisation. */
const BOOT_TIMEOUT_MS = 90_000;

const GROWN_BYTES = 6 * 1024 ** 3;

const PROBE = `#!/bin/bash
echo "parent $(cat /proc/$PPID/comm) $PPID"
echo "environment $(tr '\\0' ' ' < /proc/$$/environ)"
echo "files $(ulimit -Sn) $(ulimit -Hn)"
echo "hostname $(hostname)"
echo "hosts $(tr '\\t\\n' ' ,' < /etc/hosts)"
echo "dns $(grep -v '^#' /etc/resolv.conf | tr '\\n' ',')"
echo "machine-id $(cat /etc/machine-id)"
echo "eth0 $(ip -4 -o addr show eth0 | awk '{print $4}') $(ip -o route show default | awk '{print $3}')"
echo "lo $(ip -4 -o addr show lo | awk '{print $4}')"
echo "cgroups $(cat /sys/fs/cgroup/cgroup.subtree_control)"
echo "root $(findmnt -no FSTYPE /) $(df -B1 --output=size / | tail -1)"
echo "tmp $(findmnt -no FSTYPE -T /tmp) run $(findmnt -no FSTYPE /run) shm $(findmnt -no FSTYPE /dev/shm)"
echo "pty $(script -qc 'test -t 0 && echo yes' /dev/null | tr -d '\\r')"
echo "sudo $(sudo -u wrenn-user sudo -n id -un)"
echo "python $(python3 -c 'print(6 * 7)')"
echo "fd $(cat <(echo yes))"
echo "modules $(ls /modules 2>/dev/null | wc -l)"
sync
`;

let dir: string;
let disk: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-boot-test-"));
  disk = join(dir, "disk");
  const image = join(BUILD, "rootfs/minimal-debian.ext4");
  await run(["cp", "--sparse=always", "--reflink=auto", image, disk]);
  await Bun.write(join(dir, "probe"), PROBE);
  await Bun.write(
    join(dir, "commands"),
    `rm /usr/local/bin/envd\nwrite ${dir}/probe /usr/local/bin/envd\nsif /usr/local/bin/envd mode 0100755\n`,
  );
  await run(["debugfs", "-w", "-f", join(dir, "commands"), disk]);
  await truncate(disk, GROWN_BYTES);
}, BOOT_TIMEOUT_MS);

afterAll(() => rm(dir, { recursive: true, force: true }));

/** The guest's console from its start until the VMM has ended by itself. */
async function boot(...words: string[]): Promise<string> {
  const files = await readdir(join(BUILD, "kernel"));
  const vmlinux = files.find((file) => file.startsWith("vmlinux-")) ?? "";
  const initrd = files.find((file) => file.startsWith("initrd-"));
  const mhz = /cpu MHz\s*: ([\d.]+)/.exec(await readFile("/proc/cpuinfo", "utf8"))?.[1];
  const cmdline = [
    ...["console=ttyS0", "quiet", "reboot=t", "panic=-1", "no_timer_check", "cryptomgr.notests"],
    ...[`tsc_early_khz=${Math.round(Number(mhz) * 1000)}`, "root=/dev/vda", "rw"],
    ...["init=/usr/local/bin/wrenn-init", ...words],
  ];
  const console = await run([
    ...["timeout", "-k", "5", String(BOOT_TIMEOUT_MS / 1000 - 10), "qemu-system-x86_64"],
    ...["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512", "-no-reboot", "-display", "none"],
    ...["-M", "microvm,isa-serial=on,rtc=on,x-option-roms=off", "-nodefaults", "-no-user-config"],
    ...["-kernel", join(BUILD, "kernel", vmlinux), "-append", cmdline.join(" ")],
    ...(initrd === undefined ? [] : ["-initrd", join(BUILD, "kernel", initrd)]),
    ...["-drive", `id=root,file=${disk},format=raw,if=none`],
    ...["-device", "virtio-blk-device,drive=root", "-device", "virtio-rng-device"],
    ...["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"],
    ...["-serial", "stdio"],
  ]);
  return console.replaceAll("\r", "");
}

/** What the probe printed, by the first word of each line. */
function facts(console: string): Record<string, string> {
  const lines = console.matchAll(/^([\w-]+) (.*)$/gm);
  return Object.fromEntries(Array.from(lines, ([, name = "", value = ""]) => [name, value]));
}

describe("a guest", () => {
  let first: Record<string, string>;

  test(
    "gives envd what it needs, without a complaint, and ends when envd ends",
    async () => {
      const console = await boot("wrenn.hostname=cl-first");
      first = facts(console);

      expect(console).not.toMatch(/^(wrenn-init|initrd):/m);
      const { root, environment, "machine-id": machineId, ...rest } = first;
      expect(rest).toMatchObject({
        parent: "tini 1",
        files: "1024 524288",
        hostname: "cl-first",
        hosts: "127.0.0.1 localhost,127.0.1.1 cl-first,::1 localhost ip6-localhost ip6-loopback,",
        dns: "nameserver 8.8.8.8,nameserver 8.8.4.4,",
        eth0: "169.254.0.21/30 169.254.0.22",
        lo: "127.0.0.1/8",
        cgroups: "cpu io memory pids",
        tmp: "ext4 run tmpfs shm tmpfs",
        pty: "yes",
        sudo: "root",
        python: "42",
        fd: "yes",
        modules: "0",
      });
      expect(environment?.split(" ").map((word) => word.split("=")[0])).toEqual(
        expect.arrayContaining(["PATH", "HOME", "LANG"]),
      );
      expect(machineId).toMatch(/^[0-9a-f]{32}$/);
      expect(Number(root?.split(" ")[1])).toBeGreaterThan(0.9 * GROWN_BYTES);
    },
    BOOT_TIMEOUT_MS,
  );

  test(
    "keeps its identity over a second boot and takes the host's new settings",
    async () => {
      const second = facts(await boot("wrenn.hostname=cl-second", "wrenn.dns=9.9.9.9,nonsense"));

      expect(second).toMatchObject({
        hostname: "cl-second",
        hosts: "127.0.0.1 localhost,127.0.1.1 cl-second,::1 localhost ip6-localhost ip6-loopback,",
        dns: "nameserver 9.9.9.9,",
        "machine-id": first["machine-id"] ?? "",
      });
    },
    BOOT_TIMEOUT_MS,
  );

  test(
    "whose init can't be executed says why and ends",
    async () => {
      const console = await boot("init=/no/such/init");

      expect(console).toMatch(/exec \/no\/such\/init|No working init found|error -2/);
    },
    BOOT_TIMEOUT_MS,
  );
});
