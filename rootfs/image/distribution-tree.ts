// First stage of a base image: the distribution's file tree as a tar archive, by mmdebstrap. It
// takes most of a build's time and changes only with the recipe, so it is kept by the recipe's hash.

import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { BuildError, inputsHash, isRoot, run, step } from "../run.ts";
import { withWorkDir } from "../work-dir.ts";
import type { DebianRecipe } from "./recipes.ts";

const SETUP = join(import.meta.dirname, "setup-debian.sh");
const CUSTOMIZE = join(import.meta.dirname, "customize-debian.sh");

/** Also kept in the image. */
const APT_OPTIONS = ['Acquire::Languages "none"', 'Acquire::Retries "3"'];

export interface DistributionTree {
  readonly tar: string;
  /** Hash of the recipe: what the tree was made from. */
  readonly key: string;
  /** Seconds since 1970: the date of the newest package index, and the latest in the image. */
  readonly epoch: number;
}

interface TreeStamp {
  readonly epoch: number;
  readonly packages: readonly string[];
}

/**
 * The tree of a recipe: the one kept in `dir`, or a new one. Older trees of the image are removed.
 * @throws BuildError without root, without network, or with mmdebstrap's own words.
 */
export async function buildTree(recipe: DebianRecipe, dir: string): Promise<DistributionTree> {
  const inputs = [recipe.suite, ...recipe.packages, ...APT_OPTIONS];
  const key = (await inputsHash(inputs, [SETUP, CUSTOMIZE])).slice(0, 16);
  const base = `${recipe.name}-${key}`;
  const tar = join(dir, `${base}.tar`);
  const stampPath = join(dir, `${base}.json`);
  if (!(await Bun.file(stampPath).exists()) || !(await Bun.file(tar).exists())) {
    if (!isRoot()) throw new BuildError(`root is needed to build ${recipe.name}: use sudo`);
    console.log(`tree of ${recipe.name}:`);
    await withWorkDir(dir, (work) => makeTree(recipe, { work, tar, stampPath }));
    await removeOthers(dir, recipe.name, base);
  }
  const stamp: TreeStamp = await Bun.file(stampPath).json();
  return { tar, key, epoch: stamp.epoch };
}

async function makeTree(
  recipe: DebianRecipe,
  paths: { readonly work: string; readonly tar: string; readonly stampPath: string },
): Promise<void> {
  const { work, tar, stampPath } = paths;
  const aside = join(work, "tree.tar");
  const command = [
    "mmdebstrap",
    ...["--quiet", "--mode=root", "--variant=minbase", "--format=tar", "--skip=output/dev"],
    ...APT_OPTIONS.map((option) => `--aptopt=${option}`),
    `--include=${recipe.packages.join(",")}`,
    `--setup-hook=${SETUP}`,
    `--customize-hook=${CUSTOMIZE}`,
    `--customize-hook=copy-out /.build/epoch /.build/packages ${work}`,
    '--customize-hook=rm -r "$1/.build"',
    ...[recipe.suite, aside],
  ];
  await step(`${recipe.suite} with ${recipe.packages.length} packages, by mmdebstrap`, () =>
    // /tmp may be a tmpfs that has no room, or forbids device files.
    run(command, { env: { TMPDIR: "/var/tmp" } }),
  );
  const epoch = Number((await Bun.file(join(work, "epoch")).text()).trim());
  const packages = (await Bun.file(join(work, "packages")).text()).trim().split("\n").sort();
  const stamp: TreeStamp = { epoch, packages };
  await rename(aside, tar);
  await Bun.write(stampPath, `${JSON.stringify(stamp, null, 1)}\n`);
}

async function removeOthers(dir: string, name: string, keep: string): Promise<void> {
  const tree = new RegExp(`^${name}-[0-9a-f]{16}\\.(tar|json)$`);
  for (const file of await readdir(dir)) {
    if (tree.test(file) && !file.startsWith(keep)) await rm(join(dir, file));
  }
}
