// The optimised guest kernel: Debian's linux-source with only what a capsule needs (config), all of
// it built in, so it boots without an initrd. Minutes to build, faster to boot.

import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { BuildError, inputsHash, run, step } from "../run.ts";
import { withWorkDir } from "../work-dir.ts";
import { downloadPackage, findPackage, kernelVersion } from "./apt.ts";
import { readStamp, writeKernel } from "./output.ts";

const META_PACKAGE = "linux-source";
const CONFIG = join(import.meta.dirname, "config");

/** Programs of kbuild, and Debian's packages of those that a machine may lack. */
const BUILD_PACKAGES = { gcc: "gcc", make: "make", flex: "flex", bison: "bison", bc: "bc" };
/** objtool, which kbuild compiles, needs this header. */
const LIBELF_HEADER = "/usr/include/libelf.h";

/** Who, when and where, which the kernel would otherwise record. */
const REPRODUCIBLE = {
  KBUILD_BUILD_USER: "wrenn",
  KBUILD_BUILD_HOST: "wrenn",
  KBUILD_BUILD_VERSION: "1",
  LC_ALL: "C",
};

/**
 * Builds the kernel and writes `vmlinux-<version>` to `dir`, in place of a Debian kernel of the same
 * version and its initrd. Does nothing if it is there, made from the same source and config.
 * @throws BuildError naming what is missing, the options that did not take effect, or the end of the
 * compiler's output; the kernel that was there then stays.
 */
export async function buildOptimisedKernel(dir: string): Promise<void> {
  checkTools();
  console.log("optimised kernel:");
  const source = await step(`find the package of ${META_PACKAGE}`, () =>
    findPackage(META_PACKAGE, /Depends: (linux-source-\S+)/),
  );
  const version = kernelVersion(source.version);
  const inputs = await inputsHash([source.version], [CONFIG]);
  const stamp = await readStamp(dir);
  if (stamp?.kind === "optimised" && stamp.inputs === inputs) {
    return console.log(`  ${version} is up to date`);
  }
  await withWorkDir(dir, async (work) => {
    const deb = await step(`download ${source.name} ${source.version}`, () =>
      downloadPackage(source.name, work),
    );
    const tree = await step("unpack", () => unpack(deb, work));
    const vmlinux = await step(`compile on ${availableParallelism()} processors`, () =>
      compile(tree, join(work, "out"), source.version),
    );
    await writeKernel(dir, { vmlinux, initrd: null }, { kind: "optimised", version, inputs });
    console.log(`  vmlinux-${version} ${(vmlinux.length / 1024 / 1024).toFixed(1)} MiB`);
  });
}

function checkTools(): void {
  const missing = Object.entries(BUILD_PACKAGES)
    .filter(([program]) => !Bun.which(program))
    .map(([, name]) => name);
  if (Bun.spawnSync(["test", "-e", LIBELF_HEADER]).exitCode !== 0) missing.push("libelf-dev");
  if (missing.length > 0) {
    throw new BuildError(`to compile a kernel: apt-get install ${missing.join(" ")}`);
  }
}

async function unpack(deb: string, work: string): Promise<string> {
  await run(["dpkg-deb", "-x", deb, join(work, "deb")]);
  const from = join(work, "deb/usr/src");
  const [archive] = (await readdir(from)).filter((file) => file.includes(".tar."));
  if (!archive) throw new BuildError("the source package has no archive in /usr/src");
  const to = join(work, "source");
  await mkdir(to);
  await run(["tar", "-x", "--strip-components=1", "-f", join(from, archive), "-C", to]);
  return to;
}

/** Returns the vmlinux without symbols and debug information. */
async function compile(tree: string, out: string, packageVersion: string): Promise<Uint8Array> {
  const date = (await stat(join(tree, "Makefile"))).mtime.toUTCString();
  const env = { ...REPRODUCIBLE, KBUILD_BUILD_TIMESTAMP: date };
  const make = (...words: string[]) =>
    run(["nice", "make", "-s", "-C", tree, `O=${out}`, "ARCH=x86_64", ...words], { env });
  await make(`KCONFIG_ALLCONFIG=${CONFIG}`, "allnoconfig");
  const refused = refusedOptions(
    await readFile(CONFIG, "utf8"),
    await readFile(join(out, ".config"), "utf8"),
  );
  if (refused.length > 0) {
    throw new BuildError(`linux-source ${packageVersion} does not take ${refused.join(", ")}`);
  }
  await make(`-j${availableParallelism()}`, "vmlinux");
  const stripped = join(out, "vmlinux.stripped");
  await run(["objcopy", "-R", ".comment", "-S", join(out, "vmlinux"), stripped]);
  return Bun.file(stripped).bytes();
}

/** Options of a config fragment that the full configuration does not have. */
export function refusedOptions(wanted: string, effective: string): string[] {
  const lines = new Set(effective.split("\n"));
  return wanted.split("\n").filter((line) => line.startsWith("CONFIG_") && !lines.has(line));
}
