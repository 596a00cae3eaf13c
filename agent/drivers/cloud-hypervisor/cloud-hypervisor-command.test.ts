import { expect, test } from "bun:test";
import { bootCommand, restoreCommand } from "./cloud-hypervisor-command.ts";

const OPTIONS = {
  vcpus: 2,
  memoryMib: 512,
  kernel: { vmlinux: "/k/vmlinux", initrd: "/k/initrd", version: "6.1.192" },
  cmdlineExtra: ["wrenn.capsule=cl-a"],
  hasLandlock: false,
};

function wordAfter(command: string[], option: string): string | undefined {
  const at = command.indexOf(option);
  return at < 0 ? undefined : command[at + 1];
}

test("a guest boots from files of the jail, on descriptors of the keeper's", () => {
  const command = bootCommand(OPTIONS);

  expect(command[0]).toBe("/vm/cloud-hypervisor");
  expect(wordAfter(command, "--api-socket")).toBe("fd=4");
  expect(wordAfter(command, "--net")).toStartWith("id=net0,fd=3,mac=");
  expect(wordAfter(command, "--memory-zone")).toBe("id=ram,size=512M,file=/vm/ram,shared=on");
  expect(wordAfter(command, "--disk")).toBe("path=/vm/disk,image_type=raw");
  expect(wordAfter(command, "--cpus")).toBe("boot=2,nested=off");
  expect(wordAfter(command, "--cmdline")).toEndWith(" wrenn.capsule=cl-a");
  expect(command.join(" ")).not.toContain("/k/");
});

test("without an initrd none is named, and its own filter is on in any case", () => {
  const plain = bootCommand({ ...OPTIONS, kernel: { ...OPTIONS.kernel, initrd: null } });

  expect(wordAfter(plain, "--initramfs")).toBeUndefined();
  for (const command of [plain, restoreCommand()])
    expect(wordAfter(command, "--seccomp")).toBe("true");
});

test("a restored guest gets this host's TAP", () => {
  expect(wordAfter(restoreCommand(), "--restore")).toBe(
    "source_url=file:///vm/loaded,net_fds=[net0@[3]]",
  );
});

test("where the kernel has Landlock it opens its own directory beside what is named, else there is none", () => {
  const hasLandlock = true;

  const booted = bootCommand({ ...OPTIONS, hasLandlock });
  expect(booted).toContain("--landlock");
  expect(wordAfter(booted, "--landlock-rules")).toBe("path=/vm/own,access=rw");
  for (const command of [bootCommand(OPTIONS), restoreCommand()]) {
    expect(command.join(" ")).not.toContain("landlock");
  }
});

test("words that would be other options of the kernel are refused", () => {
  expect(() => bootCommand({ ...OPTIONS, cmdlineExtra: ["a b"] })).toThrow("bad word");
  expect(() => bootCommand({ ...OPTIONS, vcpus: 1.5 })).toThrow("no integers");
});
