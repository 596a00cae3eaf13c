// Collects the output of a command up to a bound, whatever the size of its pieces.

// Doubling from here keeps a megabyte of one-byte pieces from costing a hundred.
const FIRST_BYTES = 4096;

export class OutputBuffer {
  readonly #bytesMax: number;
  readonly #reserved: (bytes: number) => void;
  #bytes = new Uint8Array(0);
  #length = 0;

  /** `reserved` is told of memory before it is taken, and may throw. */
  constructor(bytesMax: number, reserved: (bytes: number) => void) {
    this.#bytesMax = bytesMax;
    this.#reserved = reserved;
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
    const sizeBytes = Math.min(size, this.#bytesMax);
    this.#reserved(sizeBytes - this.#bytes.byteLength);
    const larger = new Uint8Array(sizeBytes);
    larger.set(this.contents());
    this.#bytes = larger;
  }
}
