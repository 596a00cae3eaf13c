import { describe, expect, test } from "bun:test";
import { kernelCmdline, type QemuCommandOptions, qemuCommand } from "./qemu-command.ts";

const options: QemuCommandOptions = {
  program: "/usr/bin/qemu-system-x86_64",
  capsuleId: "cl-abc",
  vcpus: 2,
  memoryMib: 512,
  accel: "tcg",
  cpu: null,
  kernel: { vmlinux: "/k/vmlinux-6.1.0", initrd: "/k/initrd-6.1.0", version: "6.1.0" },
  cmdlineExtra: ["wrenn.capsule=cl-abc"],
  tscKhz: 2596128,
  disk: "file",
};

function argumentOf(command: readonly string[], option: string): string | undefined {
  return command[command.indexOf(option) + 1];
}

describe("qemuCommand", () => {
  test("shows the host's processor under KVM, or a named one that the host must be able to be", () => {
    const cpu = (name: string | null) =>
      argumentOf(qemuCommand({ ...options, accel: "kvm", cpu: name }), "-cpu");

    expect([cpu(null), cpu("Nehalem-v1")]).toEqual(["host", "Nehalem-v1,enforce"]);
    expect(argumentOf(qemuCommand(options), "-cpu")).toStartWith("max,");
  });

  test("shares guest RAM through the jail's file, of exactly the guest's size", () => {
    const command = qemuCommand(options);

    expect(argumentOf(command, "-m")).toBe("512");
    expect(argumentOf(command, "-object")).toBe(
      "memory-backend-file,id=mem,size=512M,mem-path=/vm/ram,share=on",
    );
    expect(argumentOf(command, "-machine")).toContain("memory-backend=mem");
  });

  test("denies everything that the sandbox can deny", () => {
    expect(argumentOf(qemuCommand(options), "-sandbox")).toBe(
      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
  });

  test("emulates every processor feature but slow ones, or shows the host's under KVM", () => {
    const emulated = qemuCommand(options);
    const accelerated = qemuCommand({ ...options, accel: "kvm" });

    expect([argumentOf(emulated, "-accel"), argumentOf(emulated, "-cpu")]).toEqual([
      "tcg,thread=multi,tb-size=128",
      "max,-erms,-fsrm",
    ]);
    expect([argumentOf(accelerated, "-accel"), argumentOf(accelerated, "-cpu")]).toEqual([
      "kvm",
      "host",
    ]);
  });

  test("opens a block device as one, which the driver of files refuses", () => {
    const mapped = qemuCommand({ ...options, disk: "block device" });

    expect(argumentOf(mapped, "-blockdev")).toContain("file.driver=host_device,");
    expect(argumentOf(qemuCommand(options), "-blockdev")).toContain("file.driver=file,");
  });

  test("leaves the initrd out when there is none", () => {
    const kernel = { ...options.kernel, initrd: null };

    expect(qemuCommand({ ...options, kernel })).not.toContain("-initrd");
    expect(argumentOf(qemuCommand(options), "-initrd")).toBe("/vm/initrd");
  });

  test("names no path of the host but the program's", () => {
    const paths =
      qemuCommand(options)
        .slice(1)
        .join(" ")
        .match(/(?<![\w.])\/[a-z]\S*/g) ?? [];

    expect(
      paths.filter((path) => !/^\/(vm|dev\/vda|usr\/local\/bin\/wrenn-init)/.test(path)),
    ).toEqual([]);
  });

  test("refuses a capsule id that would be an option of its own", () => {
    expect(() => qemuCommand({ ...options, capsuleId: "a,process=b" })).toThrow("capsuleId");
  });
});

describe("kernelCmdline", () => {
  test("tells an emulated guest the host's clock rate, and only that one", () => {
    const clock = /tsc_early_khz=2596128 tsc=reliable no_timer_check/;

    expect(kernelCmdline(options)).toMatch(clock);
    expect(kernelCmdline({ ...options, accel: "kvm" })).not.toMatch(clock);
  });

  test("ends with the extra words", () => {
    expect(kernelCmdline(options)).toMatch(/ init=\S+ .* wrenn\.capsule=cl-abc$/);
  });

  for (const word of ["a b", "a\nb", 'a="b"', "", "a=b\u0000", "=x", "--"]) {
    test(`refuses the word ${JSON.stringify(word)}`, () => {
      expect(() => kernelCmdline({ ...options, cmdlineExtra: [word] })).toThrow("cmdlineExtra");
    });
  }

  test("refuses a line that the kernel would cut", () => {
    const cmdlineExtra = Array.from({ length: 100 }, (_, i) => `wrenn.word${i}=aaaaaaaaaaaaaaa`);

    expect(() => kernelCmdline({ ...options, cmdlineExtra })).toThrow("too long");
  });
});
