// Debian packages that are unpacked and never installed: which one a meta package stands for, and
// its file.

import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { BuildError, run } from "../run.ts";

/** Root's apt would drop to a user that can't write where the package goes; what it downloads is
 *  checked against the signed index all the same. */
const APT_OPTIONS = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"];

export interface Package {
  readonly name: string;
  readonly version: string;
}

/**
 * The package that a meta package depends on, with the version apt would install.
 * @param pattern the dependency's line in `apt-cache depends`, the name as its first group
 * @throws BuildError if apt doesn't know it, even after an update of its lists.
 */
export async function findPackage(metaPackage: string, pattern: RegExp): Promise<Package> {
  const depends = () => run(["apt-cache", "depends", "--no-recommends", metaPackage]);
  const shown = await depends().catch(async () => {
    await run(["apt-get", "update"]);
    return depends();
  });
  const name = pattern.exec(shown)?.[1];
  if (!name) throw new BuildError(`apt knows no ${metaPackage}: is this Debian on amd64?`);
  const policy = await run(["apt-cache", "policy", name]);
  const version = /Candidate: (\S+)/.exec(policy)?.[1];
  if (!version || version === "(none)") throw new BuildError(`apt has no candidate for ${name}`);
  return { name, version };
}

/**
 * Downloads a package's file into a new directory below `dir` and returns its path.
 * @throws BuildError if it can't be downloaded, even after an update of apt's lists.
 */
export async function downloadPackage(name: string, dir: string): Promise<string> {
  const to = join(dir, "download");
  await mkdir(to);
  const get = () => run(["apt-get", ...APT_OPTIONS, "download", name], { cwd: to });
  await get().catch(async () => {
    await run(["apt-get", "update"]); // The lists name a version the archive has replaced.
    await get();
  });
  const [deb] = (await readdir(to)).filter((file) => file.endsWith(".deb"));
  if (!deb) throw new BuildError(`apt-get downloaded no ${name}`);
  return join(to, deb);
}

/** The upstream version inside a package version: "6.1.192-2" is kernel 6.1.192. */
export function kernelVersion(packageVersion: string): string {
  const version = /^(?:\d+:)?(\d+\.\d+\.\d+)/.exec(packageVersion)?.[1];
  if (!version) throw new BuildError(`the kernel package has an odd version: ${packageVersion}`);
  return version;
}
