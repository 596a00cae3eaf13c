// The thread that makes one lane's slow calls, one after the other; started by lane.ts.
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { Answer, Argument, FunctionName } from "./library.ts";
import { Library } from "./library.ts";
import { check } from "./syscall-error.ts";

const READ_BYTES = 1024 * 1024;

/** First message: where the library is. */
export interface Hello {
  readonly nativeDir: string;
}

export type Task =
  | { readonly kind: "call"; readonly name: FunctionName; readonly args: readonly Argument[] }
  | { readonly kind: "sha256"; readonly path: string };

/** The answer to each task, in the order of the tasks. */
export type Reply =
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "sha256"; readonly hex: string }
  | { readonly kind: "failed"; readonly message: string };

declare const self: Worker;

if (!Bun.isMainThread) serveTasks();

function serveTasks(): void {
  let library: Library | null = null;
  self.onmessage = (event: MessageEvent<Hello | Task>) => {
    const message = event.data;
    if ("nativeDir" in message) {
      library = new Library(message.nativeDir);
      return;
    }
    try {
      if (library === null) throw new Error("unreachable: a task came before the hello");
      postMessage(runTask(library, message));
    } catch (error) {
      postMessage({ kind: "failed", message: String(error) } satisfies Reply);
    }
  };
}

function runTask(library: Library, task: Task): Reply {
  switch (task.kind) {
    case "call":
      return { kind: "answer", answer: library.call(task.name, task.args) };
    case "sha256":
      return { kind: "sha256", hex: hashFile(library, task.path) };
  }
}

// A base image is mostly holes: those are hashed as zeros from memory and never read.
function hashFile(library: Library, path: string): string {
  const hasher = new Bun.CryptoHasher("sha256");
  const zeros = Buffer.alloc(READ_BYTES);
  const bytes = Buffer.alloc(READ_BYTES);
  const fd = openSync(path, "r");
  try {
    const { size } = fstatSync(fd);
    let at = 0;
    while (at < size) {
      const { start, end } = nextData(library, { path, at, size });
      for (; at < start; at += Math.min(READ_BYTES, start - at)) {
        hasher.update(zeros.subarray(0, Math.min(READ_BYTES, start - at)));
      }
      while (at < end) {
        const count = readSync(fd, bytes, 0, Math.min(READ_BYTES, end - at), at);
        if (count === 0) throw new Error(`${path} became shorter while it was read`);
        hasher.update(bytes.subarray(0, count));
        at += count;
      }
    }
  } finally {
    closeSync(fd);
  }
  return hasher.digest("hex");
}

function nextData(library: Library, file: { path: string; at: number; size: number }) {
  const { result, words } = library.call("wrenn_file_next_data", [file.path, BigInt(file.at)]);
  const found = check(`find data in ${file.path}`, result) === 1;
  const [start, end] = found ? words.map(Number) : [];
  return { start: Math.min(start ?? file.size, file.size), end: Math.min(end ?? 0, file.size) };
}
