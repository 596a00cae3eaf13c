// The thread that makes one lane's slow calls, one after the other; started by lane.ts.
import type { Answer, Argument, FunctionName } from "./library.ts";
import { Library } from "./library.ts";

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
  self.onmessage = async (event: MessageEvent<Hello | Task>) => {
    const message = event.data;
    if ("nativeDir" in message) {
      library = new Library(message.nativeDir);
      return;
    }
    try {
      if (library === null) throw new Error("unreachable: a task came before the hello");
      postMessage(await runTask(library, message));
    } catch (error) {
      postMessage({ kind: "failed", message: String(error) } satisfies Reply);
    }
  };
}

async function runTask(library: Library, task: Task): Promise<Reply> {
  switch (task.kind) {
    case "call":
      return { kind: "answer", answer: library.call(task.name, task.args) };
    case "sha256":
      return { kind: "sha256", hex: await hashFile(task.path) };
  }
}

async function hashFile(path: string): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256");
  for await (const chunk of Bun.file(path).stream()) hasher.update(chunk);
  return hasher.digest("hex");
}
