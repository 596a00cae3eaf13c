// Follows a log: the lines that others append to it.

import { open, stat } from "node:fs/promises";

export class NewLines {
  readonly #path: string;
  #offset: number;
  #rest = "";

  private constructor(path: string, offset: number) {
    this.#path = path;
    this.#offset = offset;
  }

  /** From the end that the file has now; it need not be there. */
  static async after(path: string): Promise<NewLines> {
    return new NewLines(path, (await stat(path).catch(() => null))?.size ?? 0);
  }

  /** The whole lines that came since the last call. */
  async read(): Promise<string[]> {
    const size = (await stat(this.#path).catch(() => null))?.size ?? 0;
    if (size <= this.#offset) return [];
    await using file = await open(this.#path);
    const { buffer } = await file.read({
      buffer: Buffer.alloc(size - this.#offset),
      position: this.#offset,
    });
    this.#offset = size;
    const lines = (this.#rest + buffer.toString()).split("\n");
    this.#rest = lines.pop() ?? "";
    return lines;
  }
}
