// Unix sockets by directory and name, however long the directory's path is.

import { closeSync, constants, openSync } from "node:fs";
import { createConnection, type Socket } from "node:net";

/**
 * Connects to the socket `name` in `directory`. Rejects with the system's error: ENOENT if there is
 * none, ECONNREFUSED if nobody listens any more. The socket does not keep the program running.
 */
export function connectInDirectory(directory: string, name: string): Promise<Socket> {
  // A socket's address holds 107 bytes, less than many a path: the kernel gets there by descriptor.
  const descriptor = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const socket = createConnection(`/proc/self/fd/${descriptor}/${name}`);
  socket.unref();
  socket.once("connect", () => {
    closeSync(descriptor);
    socket.off("error", reject);
    resolve(socket);
  });
  socket.once("error", reject);
  socket.once("close", () => reject(new Error(`${name} was closed`)));
  return promise.catch((error: unknown) => {
    closeSync(descriptor);
    throw error;
  });
}
