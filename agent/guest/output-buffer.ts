// Collects the output of a command up to a bound, whatever the size of its pieces.

// Doubling from here keeps a megabyte of one-byte pieces from costing a hundred.
const FIRST_BYTES = 4096;

export class OutputBuffer {
  readonly #bytesMax: number;
  #bytes = new Uint8Array(0);
  #length = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Keeps the piece, or as much of it as fits; answers false when it did not fit. */
  append(piece: Uint8Array): boolean {
    const fits = this.#length + piece.byteLength <= this.#bytesMax;
    const part = fits ? piece : piece.subarray(0, this.#bytesMax - this.#length);
    this.#reserve(this.#length + part.byteLength);
    this.#bytes.set(part, this.#length);
    this.#length += part.byteLength;
    return fits;
  }

  /** What was kept so far; shares its memory with the buffer. */
  contents(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#bytes.byteLength) return;
    const size = Math.max(bytes, FIRST_BYTES, 2 * this.#bytes.byteLength);
    const larger = new Uint8Array(Math.min(size, this.#bytesMax));
    larger.set(this.contents());
    this.#bytes = larger;
  }
}
