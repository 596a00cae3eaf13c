// A guest's memory: saved page by page, checked, merged, made flat. native/wrenn.h has the details.
import { callOn, splitLines } from "./caller.ts";
import type { Lane } from "./lane.ts";
import type { Answer, PagesTarget, ProcessMemory } from "./library.ts";

/** What saving did, in bytes; its cost follows `readBytes`. */
export interface PagesCounts {
  readonly readBytes: number;
  readonly dataBytes: number;
  readonly zeroBytes: number;
  readonly unchangedBytes: number;
}

export class MemoryCalls {
  readonly #lane: Lane;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  /**
   * Where a process has mapped a file from `offset` on. ENXIO: nowhere; ESRCH: there is no such process.
   */
  async findMapping(
    pid: number,
    path: string,
    offset = 0,
  ): Promise<{ address: bigint; sizeBytes: bigint }> {
    const operation = `find ${path} in process ${pid}`;
    const name = "wrenn_pages_find_mapping";
    const args = [pid, path, BigInt(offset)];
    const { words } = await callOn(this.#lane, { operation, name, args });
    return { address: words[0] ?? 0n, sizeBytes: words[1] ?? 0n };
  }

  /** Saves memory that lies whole in a file. EEXIST, ENOSPC; on failure nothing is left. */
  async sealFile(path: string, totalBytes: number, target: PagesTarget): Promise<PagesCounts> {
    const answer = await callOn(this.#lane, {
      operation: `save memory of ${path}`,
      name: "wrenn_pages_seal_file",
      args: [path, BigInt(totalBytes), target],
    });
    return toCounts(answer);
  }

  /**
   * Saves what a process changed in its memory: of one that runs, as it is at no one instant. EEXIST,
   * ENOSPC, EBADMSG (the parent is damaged), E2BIG (too many layers), ESRCH; on failure nothing is
   * left. `removed`: the pager's list of pages given back, "" if there is none.
   */
  async sealProcess(
    source: ProcessMemory & { readonly removed: string },
    target: PagesTarget,
  ): Promise<PagesCounts> {
    const answer = await callOn(this.#lane, {
      operation: `save memory of process ${source.pid}`,
      name: "wrenn_pages_seal_process",
      args: [source, source.removed, target],
    });
    return toCounts(answer);
  }

  /**
   * Has the kernel note what a process that runs writes to memory, for sealWritten. EOPNOTSUPP: it was
   * not registered for that, or this kernel cannot; ESRCH.
   */
  async track({ pid, address, totalBytes, high }: ProcessMemory): Promise<void> {
    const lowBytes = high?.offset ?? totalBytes;
    const pieces = [{ address, size: lowBytes }];
    if (high !== null) pieces.push({ address: high.address, size: totalBytes - lowBytes });
    for (const piece of pieces) {
      const operation = `follow the writes of process ${pid}`;
      const args = [pid, piece.address, BigInt(piece.size)];
      await callOn(this.#lane, { operation, name: "wrenn_pages_track", args });
    }
  }

  /**
   * Saves what a stopped process wrote since `track`, over what sealProcess saved of it meanwhile.
   * Throws as that. MUST NOT be used if the guest has given pages back.
   */
  async sealWritten(source: ProcessMemory, target: PagesTarget): Promise<PagesCounts> {
    const answer = await callOn(this.#lane, {
      operation: `save what process ${source.pid} wrote`,
      name: "wrenn_pages_seal_written",
      args: [source, target],
    });
    return toCounts(answer);
  }

  /**
   * The file names of the layers that a header names, once it and they are found whole, and the
   * size of the memory. ENOENT, EBADMSG, EIO.
   */
  async check(
    header: string,
    layerDirectories: readonly string[],
  ): Promise<{ layers: string[]; totalBytes: number }> {
    const { text, words } = await callOn(this.#lane, {
      operation: `check ${header}`,
      name: "wrenn_pages_check",
      args: [header, layerDirectories.join("\n")],
    });
    return { layers: splitLines(text), totalBytes: Number(words[0] ?? 0n) };
  }

  /** Writes memory as the flat file `path`, whose every byte was checked. EEXIST, EBADMSG, ENOSPC. */
  async flatten(header: string, layerDirectories: readonly string[], path: string): Promise<void> {
    await callOn(this.#lane, {
      operation: `make ${header} flat`,
      name: "wrenn_pages_flatten",
      args: [header, layerDirectories.join("\n"), path],
    });
  }

  /** Writes `target.parentHeader` anew as a single layer without a parent. EEXIST, EBADMSG, ENOSPC. */
  async merge(target: PagesTarget): Promise<void> {
    const operation = `merge ${target.parentHeader}`;
    await callOn(this.#lane, { operation, name: "wrenn_pages_merge", args: [target] });
  }
}

function toCounts({ words }: Answer): PagesCounts {
  const [readBytes = 0, dataBytes = 0, zeroBytes = 0, unchangedBytes = 0] = words.map(Number);
  return { readBytes, dataBytes, zeroBytes, unchangedBytes };
}
