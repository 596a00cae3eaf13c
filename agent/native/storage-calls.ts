// Copies of files, loop devices, device-mapper and mounts.
import { callOn, splitLines } from "./caller.ts";
import type { Lane } from "./lane.ts";
import { hasCode } from "./syscall-error.ts";

// linux/mount.h
const MS_NOSUID = 2n;
const MS_NODEV = 4n;
const MS_NOEXEC = 8n;
const MS_REMOUNT = 32n;

/** Whether files that are large enough have pages of 2 MiB. */
export type TmpfsHuge = "never" | "within_size";

function tmpfs(target: string): [string, string, string, bigint] {
  return ["wrenn", target, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC];
}

export class StorageCalls {
  readonly #lane: Lane;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  /**
   * Makes `target` a clone that shares its extents with `source`, mode 0600. EOPNOTSUPP, EINVAL or
   * ENOTTY: the file system cannot; EXDEV: two file systems; EEXIST. Leaves no target on failure.
   */
  async reflink(source: string, target: string): Promise<void> {
    await this.#call(`clone ${source} to ${target}`, "wrenn_file_reflink", [source, target]);
  }

  /**
   * Makes `target` a copy of a file with the same holes, or of a block device, mode 0600; none is left
   * on failure.
   */
  async copySparse(source: string, target: string): Promise<void> {
    await this.#call(`copy ${source} to ${target}`, "wrenn_file_copy_sparse", [source, target]);
  }

  /** A reflink where the file system can, else a sparse copy. */
  async clone(source: string, target: string): Promise<void> {
    try {
      await this.reflink(source, target);
    } catch (error) {
      if (!hasCode(error, "EOPNOTSUPP", "EINVAL", "ENOTTY", "EXDEV")) throw error;
      await this.copySparse(source, target);
    }
  }

  /** What a file or a block device holds. ENOENT; EINVAL: it is neither. */
  async sizeBytes(path: string): Promise<number> {
    const { words } = await this.#call(`measure ${path}`, "wrenn_file_size", [path]);
    return Number(words[0] ?? 0n);
  }

  /** The SHA-256 of a file's bytes in hexadecimal, holes included. */
  async sha256(path: string): Promise<string> {
    const reply = await this.#lane.run({ kind: "sha256", path });
    if (reply.kind === "sha256") return reply.hex;
    throw new Error(`hash ${path}: ${reply.kind === "failed" ? reply.message : "no answer"}`);
  }

  /** Attaches a file to a free loop device that outlives the process; returns its number. */
  async attachLoop(path: string, options: { readOnly: boolean }): Promise<number> {
    const args = [path, options.readOnly ? 1 : 0];
    return (await this.#call(`attach loop to ${path}`, "wrenn_loop_attach", args)).result;
  }

  /** Detaches a loop device once its last user is gone. ENXIO: nothing is attached. */
  async detachLoop(index: number): Promise<void> {
    await this.#call(`detach /dev/loop${index}`, "wrenn_loop_detach", [index]);
  }

  /** The kernel's device-mapper interface, or ENOENT where there is none. */
  async deviceMapperVersion(): Promise<{ major: number; minor: number }> {
    const { result } = await this.#call("ask device-mapper's version", "wrenn_dm_version", []);
    return { major: result >> 16, minor: result & 0xffff };
  }

  /** Makes a device-mapper device without a table; returns its device number. EBUSY: it exists. */
  async createMapped(name: string): Promise<bigint> {
    const { words } = await this.#call(`create device ${name}`, "wrenn_dm_create", [name]);
    return words[0] ?? 0n;
  }

  /**
   * Loads a table, which resumeMapped activates: lines of "<start> <sectors> <target>
   * [<parameters>]". EINVAL: the kernel refuses it.
   */
  async loadMapped(name: string, lines: readonly string[]): Promise<void> {
    const args = [name, lines.join("\n")];
    await this.#call(`load table of ${name}`, "wrenn_dm_load", args);
  }

  async resumeMapped(name: string): Promise<void> {
    await this.#call(`resume device ${name}`, "wrenn_dm_resume", [name]);
  }

  /** Flushes and holds I/O until resumeMapped. */
  async suspendMapped(name: string): Promise<void> {
    await this.#call(`suspend device ${name}`, "wrenn_dm_suspend", [name]);
  }

  /** Holds I/O until resumeMapped, and writes nothing out before. */
  async holdMapped(name: string): Promise<void> {
    await this.#call(`hold device ${name}`, "wrenn_dm_hold", [name]);
  }

  /** EBUSY: it is open; ENXIO: there is none. */
  async removeMapped(name: string): Promise<void> {
    await this.#call(`remove device ${name}`, "wrenn_dm_remove", [name]);
  }

  /** The status line of the device's only target. */
  async statusMapped(name: string): Promise<string> {
    return (await this.#call(`ask status of ${name}`, "wrenn_dm_status", [name])).text;
  }

  /** The names of device-mapper devices that start with `prefix`. */
  async listMapped(prefix: string): Promise<string[]> {
    const { text } = await this.#call(`list devices ${prefix}*`, "wrenn_dm_list", [prefix]);
    return splitLines(text);
  }

  /** Mounts a tmpfs without devices, programs or set-uid; `mode` is that of its root directory. */
  async mountTmpfs(target: string, options: { sizeMib: number; mode: number }): Promise<void> {
    const data = `size=${options.sizeMib}m,mode=${options.mode.toString(8)}`;
    await this.#call(`mount tmpfs at ${target}`, "wrenn_mount", [...tmpfs(target), data]);
  }

  /** Of a tmpfs that is mounted, for what nobody has touched yet. Documentation/filesystems/tmpfs.rst of Linux. */
  async setTmpfsHuge(target: string, huge: TmpfsHuge): Promise<void> {
    const [source, at, type, flags] = tmpfs(target);
    const args = [source, at, type, flags | MS_REMOUNT, `huge=${huge}`];
    await this.#call(`mount tmpfs at ${target} anew`, "wrenn_mount", args);
  }

  /** EINVAL: `target` is not a mount; EBUSY: it is in use. */
  async unmount(target: string): Promise<void> {
    await this.#call(`unmount ${target}`, "wrenn_unmount", [target, 0]);
  }

  #call(
    operation: string,
    name: Parameters<typeof callOn>[1]["name"],
    args: (string | number | bigint)[],
  ) {
    return callOn(this.#lane, { operation, name, args });
  }
}
