// Which modules an initrd needs and in what order, from the .modinfo section of the modules
// themselves: a kernel package that was never installed has no modules.dep yet.

import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { BuildError, filter } from "../run.ts";

/** Name of a module by its file, in the kernel's spelling (`virtio-rng.ko.xz` is `virtio_rng`). */
export function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\.(xz|zst|gz))?$/, "")
    .replaceAll("-", "_");
}

/** The modules a module needs first: the `depends=` text in its .modinfo section. */
export function moduleDepends(module: Uint8Array): string[] {
  const text = Buffer.from(module.buffer, module.byteOffset, module.length).toString("latin1");
  const value = /\0depends=([^\0]*)\0/.exec(text)?.[1] ?? "";
  return value === "" ? [] : value.split(",").map((name) => name.replaceAll("-", "_"));
}

/**
 * The wanted modules and all they depend on, each after what it needs. Names of modules that are
 * built into the kernel are left out.
 * @throws BuildError for a name that is neither a module nor built in.
 */
export function loadOrder(
  wanted: readonly string[],
  depends: ReadonlyMap<string, readonly string[]>,
  builtIn: ReadonlySet<string>,
): string[] {
  const order: string[] = [];
  const visit = (name: string) => {
    if (order.includes(name) || builtIn.has(name)) return;
    const needs = depends.get(name);
    if (!needs) throw new BuildError(`the kernel package has no module ${name}`);
    needs.forEach(visit);
    order.push(name);
  };
  wanted.forEach(visit);
  return order;
}

export interface KernelModule {
  readonly name: string;
  readonly data: Uint8Array;
}

/**
 * Reads the wanted modules and what they need from an unpacked kernel package, in load order.
 * @param dir lib/modules/<release>
 */
export async function readModules(dir: string, wanted: readonly string[]): Promise<KernelModule[]> {
  const files = new Map<string, string>();
  for (const entry of await readdir(join(dir, "kernel"), { recursive: true })) {
    if (/\.ko(\.(xz|zst|gz))?$/.test(entry))
      files.set(moduleName(entry), join(dir, "kernel", entry));
  }
  const builtIn = new Set(
    (await readFile(join(dir, "modules.builtin"), "utf8")).split("\n").map(moduleName),
  );
  const contents = new Map<string, Uint8Array>();
  const depends = new Map<string, string[]>();
  const pending = [...wanted];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const file = files.get(name);
    if (!file || depends.has(name)) continue;
    const data = await readModule(file);
    contents.set(name, data);
    depends.set(name, moduleDepends(data));
    pending.push(...(depends.get(name) ?? []));
  }
  return loadOrder(wanted, depends, builtIn).map((name) => {
    const data = contents.get(name);
    if (!data) throw new Error(`unreachable: module ${name} was ordered but never read`);
    return { name, data };
  });
}

/** The kernel in the guest loads plain modules only, so compressed ones are unpacked here. */
async function readModule(file: string): Promise<Uint8Array> {
  const bytes = await Bun.file(file).bytes();
  if (file.endsWith(".xz")) return filter(["xz", "-dc"], bytes);
  if (file.endsWith(".zst")) return Bun.zstdDecompressSync(bytes);
  return file.endsWith(".gz") ? Bun.gunzipSync(bytes) : bytes;
}
