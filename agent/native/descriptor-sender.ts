// Open descriptors for another process, over a unix socket of node:net, which cannot send any.
import type { Socket } from "node:net";
import { Library } from "./library.ts";
import { check } from "./syscall-error.ts";

export class DescriptorSender {
  readonly #library: Library;

  /** Loads `nativeDir`/libwrenn.so. Throws, naming the file, if it is missing or does not load. */
  constructor(nativeDir: string) {
    this.#library = new Library(nativeDir);
  }

  /**
   * Sends the text and a copy of the descriptor. MUST be called when nothing written to the socket
   * waits to be sent, and for less than fits its buffer. Throws SyscallError: the other side is gone.
   */
  send(socket: Socket, text: string, descriptor: number): void {
    const args = [descriptorOf(socket), text, descriptor];
    const { result } = this.#library.call("wrenn_descriptor_send", args);
    check("send a descriptor", result);
  }
}

// Node's convention, which Bun follows; a socket that was closed has none.
function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, "_handle");
  const isOpen = typeof handle === "object" && handle !== null && "fd" in handle;
  return isOpen && typeof handle.fd === "number" ? handle.fd : -1;
}
