// What guests find the same under every VMM.

import { VmmError } from "../../vmm/vmm.ts";

/** The guest's only network device; the same in every capsule so that snapshots restore anywhere. */
export const GUEST_MAC = "02:FC:00:00:00:05";

// COMMAND_LINE_SIZE of x86; the kernel cuts what is longer without a word.
const CMDLINE_BYTES_MAX = 2047;
// No "--" either: what follows it would become arguments of init.
const CMDLINE_WORD = /^[A-Za-z0-9_][A-Za-z0-9_.-]*(=[A-Za-z0-9_.,:/@+-]*)?$/;

// panic=-1: a guest that panics reboots at once, which ends its VMM, and the agent hears of it.
// cryptomgr.notests: the self tests of the kernel's ciphers take 0.3 s of a TCG boot of 1.9 s.
const KERNEL_FLAGS = [
  "console=ttyS0",
  "quiet",
  "loglevel=1",
  "panic=-1",
  "root=/dev/vda",
  "rw",
  "init=/usr/local/bin/wrenn-init",
  "cryptomgr.notests",
];

/**
 * The guest's kernel command line, with a VMM's own flags. Throws VmmError if an extra word or the
 * whole is not usable.
 */
export function guestCmdline(vmmFlags: readonly string[], extra: readonly string[]): string {
  for (const word of extra) {
    if (!CMDLINE_WORD.test(word)) throw new VmmError(`cmdlineExtra: bad word ${word}`);
  }
  const cmdline = [...KERNEL_FLAGS, ...vmmFlags, ...extra].join(" ");
  if (cmdline.length > CMDLINE_BYTES_MAX) throw new VmmError("cmdlineExtra: too long");
  return cmdline;
}
