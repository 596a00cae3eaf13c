// Each check against a machine on which that one thing is wrong.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { checkMachine } from "./machine-checks.ts";

const GOOD: Readonly<Record<string, string>> = {
  "proc/sys/net/ipv4/ip_forward": "1\n",
  "proc/sys/net/ipv4/neigh/default/gc_thresh3": "32768\n",
  "proc/sys/kernel/pid_max": "4194304\n",
  "proc/sys/kernel/threads-max": "193102\n",
  "proc/sys/user/max_net_namespaces": "96551\n",
  "proc/sys/user/max_mnt_namespaces": "96551\n",
  "proc/sys/user/max_pid_namespaces": "96551\n",
  "proc/sys/user/max_ipc_namespaces": "96551\n",
  "proc/sys/user/max_uts_namespaces": "96551\n",
  "proc/self/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n",
  "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma\n",
  "proc/self/uid_map": "         0          0 4294967295\n",
  "proc/self/gid_map": "         0          0 4294967295\n",
  "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
  "etc/subuid": "ann:100000:65536\n",
  "sys/kernel/mm/ksm/run": "0\n",
  "dev/userfaultfd": "",
  "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 -2\n",
  "sys/devices/system/cpu/smt/active": "0\n",
};
const OPTIONS = { uidBase: 2_100_000_000, openFilesMax: () => 1_048_576, uid: 0 };

let base: string;
let machines = 0;

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "wrenn-doctor-"));
});
afterAll(() => rm(base, { recursive: true }));

/** What the checks find that is not in order; `missing`: a file that is not there. */
async function troubles(
  files: Record<string, string>,
  options: Partial<typeof OPTIONS> = {},
  missing?: string,
) {
  const root = join(base, String(machines++));
  for (const [path, text] of Object.entries({ ...GOOD, ...files })) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  if (missing !== undefined) await rm(join(root, missing));
  const findings = await checkMachine({ ...OPTIONS, ...options }, root);
  return findings.filter(({ status }) => status !== "ok");
}

test("nothing is wrong with a machine that is in order", async () => {
  expect(await troubles({})).toEqual([]);
});

const CASES: [string, string, Record<string, string>, RegExp][] = [
  ["ip_forward", "failed", { "proc/sys/net/ipv4/ip_forward": "0\n" }, /forwards no IPv4/],
  ["neighbours", "warning", { "proc/sys/net/ipv4/neigh/default/gc_thresh3": "1024" }, /^1024 /],
  [
    "cgroups",
    "failed",
    { "sys/fs/cgroup/cgroup.controllers": "cpu io pids\n" },
    /no cgroup controller for memory$/,
  ],
  ["cgroups", "failed", { "proc/self/mounts": "" }, /memory, cpu, pids$/],
  ["processes", "warning", { "proc/sys/kernel/pid_max": "32768" }, /^32768 process ids/],
  ["processes", "warning", { "proc/sys/kernel/threads-max": "32768" }, /32768 threads/],
  [
    "namespaces",
    "failed",
    { "proc/sys/user/max_net_namespaces": "0", "proc/sys/user/max_uts_namespaces": "9" },
    /too few: user.max_net_namespaces=0, user.max_uts_namespaces=9$/,
  ],
  [
    "user ids",
    "failed",
    { "etc/subuid": "ann:2100000000:65536\n" },
    /those of ann in \/etc\/subuid/,
  ],
  ["user ids", "failed", { "proc/self/uid_map": "0 100000 65536\n" }, /user namespace/],
  ["memory merging", "failed", { "sys/kernel/mm/ksm/run": "1\n" }, /KSM/],
  [
    "swap",
    "warning",
    { "proc/swaps": "Filename Type Size Used Priority\n/dev/vdb partition 9 0 -2\n" },
    /may be written to \/dev\/vdb /,
  ],
  ["smt", "warning", { "sys/devices/system/cpu/smt/active": "1\n" }, /SMT/],
];
test.each(CASES)("%s: %s, with something to do, for %p", async (check, status, files, found) => {
  const [trouble, ...others] = await troubles(files);

  expect(others).toEqual([]);
  expect([trouble?.check, trouble?.status]).toEqual([check, status]);
  expect(trouble?.found).toMatch(found);
  expect(trouble?.remedy?.length).toBeGreaterThan(10);
});

test("a kernel without /dev/userfaultfd is found", async () => {
  expect((await troubles({}, {}, "dev/userfaultfd")).map(({ check }) => check)).toEqual([
    "userfaultfd",
  ]);
});

test("a user that is not root, and few files, are found", async () => {
  const found = await troubles({}, { uid: 1000, openFilesMax: () => 1024 });

  expect(found.map(({ check, status }) => [check, status])).toEqual([
    ["root", "failed"],
    ["open files", "warning"],
  ]);
});

test("a limit that cannot be read is a finding about that limit", async () => {
  const openFilesMax = () => {
    throw new Error("/proc/self/limits does not tell the open files");
  };

  const found = await troubles({}, { openFilesMax });

  expect(found.map(({ check, status, found }) => [check, status, found])).toEqual([
    ["open files", "failed", "/proc/self/limits does not tell the open files"],
  ]);
});
