// Unix sockets by directory and name, however long the directory's path is.

import { closeSync, constants, openSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";

// linux/fcntl.h; node:fs does not name it.
const O_PATH = 0o10000000;

/**
 * Connects to the socket `name` in `directory`. Rejects with the system's error: ENOENT if there is
 * none, ECONNREFUSED if nobody listens any more, or if it is no socket: a link is not followed, for
 * the directory may be the user's who is to answer. The socket does not keep the program running.
 */
export async function connectInDirectory(directory: string, name: string): Promise<Socket> {
  // A socket's address holds 107 bytes, less than many a path: the kernel gets there by descriptor.
  const descriptor = openSync(join(directory, name), O_PATH | constants.O_NOFOLLOW);
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  try {
    const socket = createConnection(`/proc/self/fd/${descriptor}`);
    socket.unref();
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
    socket.once("close", () => reject(new Error(`${name} was closed`)));
    return await promise;
  } finally {
    closeSync(descriptor);
  }
}
