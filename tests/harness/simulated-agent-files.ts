// The file system of a simulated capsule: a tree in memory with the answers of the real one.

import { Code, ConnectError } from "@connectrpc/connect";
import { USERS } from "./simulated-agent-processes.ts";

export interface SimulatedEntry {
  name: string;
  path: string;
  type: "file" | "directory";
  size: bigint;
  mode: number;
  permissions: string;
  owner: string;
  group: string;
  modifiedAt: bigint;
}

export interface SimulatedPath {
  readonly sandboxId: string;
  readonly path: string;
  readonly user: string;
}

interface Node {
  content: Uint8Array | null;
  modifiedAt: number;
}

const HOME = "/root";
const CHUNK_BYTES = 64 * 1024;

export class SimulatedFiles {
  readonly #nodes = new Map<string, Node>(
    ["/", HOME, "/tmp"].map((path) => [path, { content: null, modifiedAt: Date.now() }]),
  );

  /** The same files, which go their own way from here. */
  copy(): SimulatedFiles {
    const copy = new SimulatedFiles();
    for (const [path, node] of this.#nodes) copy.#nodes.set(path, { ...node });
    return copy;
  }

  /** Throws as an agent does when there is no such user. */
  as(user: string): this {
    if (!USERS.includes(user)) throw invalid(`user: user '${user}' does not exist`);
    return this;
  }

  read(path: string): Uint8Array {
    const node = this.#existing(path);
    if (node.content === null) throw invalid(`path '${path}' is a directory`);
    return node.content;
  }

  write(path: string, content: Uint8Array): void {
    const full = absolute(path);
    if (this.#nodes.get(full)?.content === null) throw invalid(`path '${path}' is a directory`);
    this.#addParents(full);
    this.#nodes.set(full, { content, modifiedAt: Date.now() });
  }

  makeDirectory(path: string): SimulatedEntry {
    const full = absolute(path);
    const known = this.#nodes.get(full);
    if (known?.content === null) {
      throw new ConnectError(`directory '${path}' already exists`, Code.AlreadyExists);
    }
    if (known !== undefined) throw invalid(`path '${path}' is a file`);
    this.#addParents(full);
    const node = { content: null, modifiedAt: Date.now() };
    this.#nodes.set(full, node);
    return entry(full, node);
  }

  remove(path: string): void {
    this.#existing(path);
    const full = absolute(path);
    for (const known of [...this.#nodes.keys()]) {
      if (known === full || known.startsWith(`${full}/`)) this.#nodes.delete(known);
    }
  }

  list(path: string, depth: number): SimulatedEntry[] {
    const full = absolute(path);
    if (this.#existing(path).content !== null) throw invalid(`path '${path}' is not a directory`);
    const prefix = full === "/" ? "/" : `${full}/`;
    return [...this.#nodes]
      .filter(([known]) => known !== full && known.startsWith(prefix))
      .filter(([known]) => known.slice(prefix.length).split("/").length <= Math.max(depth, 1))
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([known, node]) => entry(known, node));
  }

  #existing(path: string): Node {
    const node = this.#nodes.get(absolute(path));
    if (node !== undefined) return node;
    throw new ConnectError(`path '${path}' does not exist`, Code.NotFound, {
      "wrenn-reason": "file",
    });
  }

  #addParents(full: string): void {
    const parts = full.split("/").slice(1, -1);
    for (let count = 1; count <= parts.length; count++) {
      const parent = `/${parts.slice(0, count).join("/")}`;
      const node = this.#nodes.get(parent);
      if (node !== undefined && node.content !== null) throw invalid(`path '${parent}' is a file`);
      if (node === undefined) this.#nodes.set(parent, { content: null, modifiedAt: Date.now() });
    }
  }
}

/** As the guest agent resolves a path: `~` and relative ones from the user's home. */
function absolute(path: string): string {
  if (path === "") throw invalid("path is empty");
  const rooted = path === "~" ? HOME : path.startsWith("~/") ? `${HOME}/${path.slice(2)}` : path;
  const full = rooted.startsWith("/") ? rooted : `${HOME}/${rooted}`;
  const parts = full.split("/").filter((part) => part !== "" && part !== ".");
  return `/${parts.join("/")}`;
}

function entry(path: string, node: Node): SimulatedEntry {
  const isDirectory = node.content === null;
  return {
    name: path.split("/").at(-1) ?? "",
    path,
    type: isDirectory ? "directory" : "file",
    size: BigInt(node.content?.byteLength ?? 0),
    mode: isDirectory ? 0o755 : 0o644,
    permissions: isDirectory ? "drwxr-xr-x" : "-rw-r--r--",
    owner: "root",
    group: "root",
    modifiedAt: BigInt(Math.floor(node.modifiedAt / 1000)),
  };
}

function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}

/** What is read of a file, piece by piece, and what goes wrong with that. */
export async function* chunksOf(
  content: Uint8Array,
  faults: { secondChunks: Promise<void>; breakReadAfterBytes: number | undefined },
) {
  for (let start = 0; start < content.byteLength; start += CHUNK_BYTES) {
    if (start > 0) await faults.secondChunks;
    if (start > (faults.breakReadAfterBytes ?? content.byteLength)) {
      throw new ConnectError("the disk failed", Code.DataLoss);
    }
    yield { chunk: content.subarray(start, start + CHUNK_BYTES) };
  }
}
