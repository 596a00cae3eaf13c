// One operation at a time on a development platform: two that start, stop or heal it side by side would
// each undo what the other does.
//
// The lock is a listening socket in the abstract namespace (unix(7)): it needs no file, so it works while
// the directory is gone, and the kernel frees it with its process, however that ends.

import { createHash } from "node:crypto";

const POLL_MS = 50;
/** The longest operation is a stop that pauses many capsules. */
const WAIT_MAX_MS = 300_000;

/**
 * Waits until no other process holds the platform's lock and takes it; `waiting` hears once who it is
 * that has it. Throws after five minutes.
 */
export async function lockPlatform(
  path: string,
  options: { name: string; waiting?: (holder: string) => void },
): Promise<Disposable> {
  const deadline = performance.now() + WAIT_MAX_MS;
  let isTold = false;
  for (;;) {
    const lock = tryLockPlatform(path, options.name);
    if (lock !== null) return lock;
    if (!isTold) options.waiting?.(await holderOf(path));
    isTold = true;
    if (performance.now() > deadline) {
      throw new Error(`${await holderOf(path)} still works on this platform; end it first`);
    }
    await Bun.sleep(POLL_MS);
  }
}

/** The same without waiting; null: somebody has it. */
export function tryLockPlatform(path: string, name: string): Disposable | null {
  try {
    const listener = Bun.listen({
      unix: socketOf(path),
      socket: {
        open: (socket) => {
          socket.end(`${name} (pid ${process.pid})`);
        },
        data: () => {},
      },
    });
    return { [Symbol.dispose]: () => listener.stop(true) };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") return null;
    throw error;
  }
}

async function holderOf(path: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const unknown = "another command";
  const connection = Bun.connect({
    unix: socketOf(path),
    socket: {
      data: (_socket, bytes) => resolve(bytes.toString()),
      close: () => resolve(unknown),
    },
  });
  connection.catch(() => resolve(unknown));
  setTimeout(() => resolve(unknown), 1_000);
  return await promise;
}

function socketOf(path: string): string {
  const hash = createHash("sha256").update(path).digest("hex").slice(0, 16);
  return `\0wrenn-dev-${hash}`;
}
