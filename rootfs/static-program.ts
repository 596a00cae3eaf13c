// Compiles the guest's small C programs: static, against musl, so that they run on any image.

import { join } from "node:path";
import { run } from "./run.ts";

const INIT_DIR = join(import.meta.dirname, "init");

const WARNINGS = [
  "-Wall",
  "-Wextra",
  "-Werror",
  "-Wshadow",
  "-Wconversion",
  "-Wstrict-prototypes",
  "-Wmissing-prototypes",
  "-Wvla",
];

/** Sources of each program, below rootfs/init. */
const GUEST_PROGRAMS = {
  "wrenn-init": ["wrenn-init.c", "cmdline.c", "console.c", "network.c", "small-file.c"],
  "initrd-init": ["initrd-init.c", "cmdline.c", "console.c", "small-file.c"],
} as const;

/** Files whose contents decide the program's bytes. */
export function programSources(program: keyof typeof GUEST_PROGRAMS): string[] {
  const headers = ["cmdline.h", "console.h", "network.h", "small-file.h"];
  return [...GUEST_PROGRAMS[program], ...headers].map((file) => join(INIT_DIR, file));
}

/**
 * Compiles one program to `output`, below a work directory or a tree that is being made. The bytes
 * depend on the sources and the compiler only.
 * @throws BuildError with the compiler's messages.
 */
export async function compileStatic(
  program: keyof typeof GUEST_PROGRAMS,
  output: string,
): Promise<void> {
  // Relative names keep the checkout's place out of the binary.
  const flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-s", "-Wl,--build-id=none"];
  await run(["musl-gcc", ...flags, ...WARNINGS, ...GUEST_PROGRAMS[program], "-o", output], {
    cwd: INIT_DIR,
  });
}
