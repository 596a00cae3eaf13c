// Second stage of a base image: the distribution's tree plus the platform's own files, made into an
// ext4 file system. Same inputs, same bytes: see file-system.ts.
//
// The file is named by its contents when an agent imports it, so its SHA-256 lies beside it.

import { rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BuildError, inputsHash, isRoot, run, step } from "../run.ts";
import { programSources } from "../static-program.ts";
import { withWorkDir } from "../work-dir.ts";
import type { DistributionTree } from "./distribution-tree.ts";
import { FILE_SYSTEM_SOURCES, makeFileSystem } from "./file-system.ts";
import { addPlatformFiles, envdFiles } from "./platform-files.ts";
import type { DebianRecipe } from "./recipes.ts";
import { sparseSha256 } from "./sparse-sha256.ts";

export interface ImageOptions {
  readonly recipe: DebianRecipe;
  readonly tree: DistributionTree;
  /** Directory with envd's bundle. */
  readonly envdDir: string;
  /** Where the image goes. */
  readonly dir: string;
}

/**
 * Writes `<dir>/<name>.ext4` and `<dir>/<name>.sha256`, unless they are made from the same inputs.
 * @throws BuildError without root, without envd's bundle, or with the words of what failed; the old
 * image, if there was one, then stays.
 */
export async function buildImage(options: ImageOptions): Promise<void> {
  const { recipe, tree, envdDir, dir } = options;
  if (!isRoot()) throw new BuildError(`root is needed to build ${recipe.name}: use sudo`);
  const files = await envdFiles(envdDir);
  const stampPath = join(dir, `${recipe.name}.inputs`);
  const inputs = await inputsHash(
    [tree.key, String(tree.epoch), JSON.stringify(recipe), ...files.map((f) => f.target)],
    [...files.map((f) => f.source), ...programSources("wrenn-init"), ...FILE_SYSTEM_SOURCES],
  );
  const image = join(dir, `${recipe.name}.ext4`);
  if ((await textOf(stampPath)) === inputs && (await Bun.file(image).exists())) {
    return console.log(`image ${recipe.name} is up to date`);
  }

  console.log(`image ${recipe.name}:`);
  await rm(stampPath, { force: true });
  await withWorkDir(dir, async (work) => {
    const root = join(work, "root");
    const aside = join(work, "image");
    await step("unpack the tree", () => unpack(tree.tar, root));
    await step("add envd and wrenn-init", () => addPlatformFiles(root, files, tree.epoch));
    await step("make the file system", () =>
      makeFileSystem({ root, image: aside, epoch: tree.epoch, work, recipe }),
    );
    const sha256 = await step("hash it", () => sparseSha256(aside, work));
    await rename(aside, image);
    await writeFile(join(dir, `${recipe.name}.sha256`), `${sha256}\n`);
    await writeFile(stampPath, inputs);
    console.log(`  ${recipe.name}.ext4 ${await allocatedMib(image)} MiB in use, sha256 ${sha256}`);
  });
}

async function textOf(path: string): Promise<string | null> {
  const file = Bun.file(path);
  return (await file.exists()) ? file.text() : null;
}

async function unpack(tar: string, root: string): Promise<void> {
  await run(["mkdir", "-m", "0755", root]);
  const keep = ["--numeric-owner", "--same-permissions", "--xattrs", "--xattrs-include=*"];
  await run(["tar", "-x", ...keep, "-f", tar, "-C", root]);
}

async function allocatedMib(path: string): Promise<number> {
  return Math.round(((await stat(path)).blocks * 512) / 1024 / 1024);
}
