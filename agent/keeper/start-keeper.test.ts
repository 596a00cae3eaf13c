import { expect, test } from "bun:test";
import { type KeeperSpec, keeperArguments } from "./start-keeper.ts";

const SPEC: KeeperSpec = {
  runDir: "/run/wrenn/cl-a",
  consoleLog: "/logs/cl-a.console.log",
  netns: "wrenn-ab12-7",
  tap: "tap0",
  uid: 210_007,
  control: "qmp.sock",
  cgroupProcsFiles: ["/cg/memory/cgroup.procs", "/cg/cpu/cgroup.procs"],
  files: [
    { name: "kernel", path: "/k/vmlinux", access: "ro" },
    { name: "disk", path: "/d/cl-a.ext4", access: "rw" },
  ],
  devices: ["/dev/kvm"],
  environment: { LD_PRELOAD: "/vm/preload" },
  pager: { dir: "/run/wrenn/cl-a/pager", command: ["/native/pager", "--uid", "1"] },
  fileMaxBytes: 4096,
  command: ["/usr/bin/qemu", "-m", "1"],
};

test("the keeper is told everything it must not guess", () => {
  const args = keeperArguments(SPEC);

  expect(args.join(" ")).toBe(
    [
      "--run-dir /run/wrenn/cl-a --console-log /logs/cl-a.console.log --log-max 1048576",
      "--netns /run/netns/wrenn-ab12-7 --tap tap0 --control qmp.sock --uid 210007",
      "--fsize 4096 --nofile 256 --grace-ms 2000",
      "--cgroup /cg/memory/cgroup.procs --cgroup /cg/cpu/cgroup.procs",
      "--file kernel=ro:/k/vmlinux --file disk=rw:/d/cl-a.ext4 --device /dev/kvm",
      "--env LD_PRELOAD=/vm/preload --pager-dir /run/wrenn/cl-a/pager",
      "--pager-arg /native/pager --pager-arg --uid --pager-arg 1",
      "-- /usr/bin/qemu -m 1",
    ].join(" "),
  );
});

test("a VMM that makes its own sockets is given neither an open TAP nor a socket", () => {
  const args = keeperArguments({ ...SPEC, tap: null, control: null }).join(" ");

  expect(args).toContain("--netns /run/netns/wrenn-ab12-7 --uid 210007");
});
