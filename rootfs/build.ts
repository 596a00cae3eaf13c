// Builds what a capsule boots: the guest kernel and the base images.
//
//   bun rootfs/build.ts kernel                    Debian's cloud kernel: build/kernel/vmlinux-<version>
//                                                 and initrd-<version> (seconds, no root needed)
//   bun rootfs/build.ts optimised-kernel          the same from linux-source with rootfs/kernel/config,
//                                                 everything built in, so without initrd (minutes)
//   bun rootfs/build.ts tree <image>              only the file tree of the distribution, which
//                                                 `image` otherwise makes when it is missing
//   bun rootfs/build.ts image <image>             build/rootfs/<image>.ext4 and <image>.sha256; needs
//                                                 root and build/envd (scripts/build-envd.ts)
//
// Options: --output=<dir> in place of build/, --envd=<dir> in place of build/envd.
// What is up to date is left alone: each step keeps a hash of its inputs beside its output and
// writes its output aside, so an interrupted build leaves the old one or none.
// Debian packages needed on the machine: see the lines of scripts/packages.txt.

import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { buildTree } from "./image/distribution-tree.ts";
import { buildImage } from "./image/image.ts";
import { RECIPES } from "./image/recipes.ts";
import { buildDebianKernel } from "./kernel/debian-kernel.ts";
import { buildOptimisedKernel } from "./kernel/optimised-kernel.ts";
import { BuildError, endOnSignals } from "./run.ts";

const ROOT = resolve(import.meta.dirname, "..");
const USAGE = `usage: bun rootfs/build.ts kernel | optimised-kernel | tree <image> | image <image>
images: ${Object.keys(RECIPES).join(", ")}`;

endOnSignals();
try {
  await main();
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(`rootfs: ${error.message}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { output: { type: "string" }, envd: { type: "string" } },
  });
  const output = resolve(values.output ?? join(ROOT, "build"));
  const envdDir = resolve(values.envd ?? join(output, "envd"));
  const [command, name] = positionals;
  if (command === "kernel") return buildDebianKernel(join(output, "kernel"));
  if (command === "optimised-kernel") return buildOptimisedKernel(join(output, "kernel"));
  const recipe = RECIPES[name ?? ""];
  if (!recipe || (command !== "tree" && command !== "image")) throw new BuildError(USAGE);
  const tree = await buildTree(recipe, join(output, "rootfs"));
  if (command === "image") await buildImage({ recipe, tree, envdDir, dir: join(output, "rootfs") });
}
