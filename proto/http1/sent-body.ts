// What has been sent of a request's body, kept for sending it again while it is small.

/** Requests of programs fit, uploads do not; as much is held for each request that waits. */
const KEPT_BYTES_MAX = 64 * 1024;

export class SentBody {
  #pieces: Buffer[] | null = [];
  #sizeBytes = 0;

  /** All of it is here. */
  get isWhole(): boolean {
    return this.#pieces !== null;
  }

  add(bytes: Buffer): void {
    this.#sizeBytes += bytes.length;
    if (this.#sizeBytes > KEPT_BYTES_MAX) this.#pieces = null;
    else this.#pieces?.push(bytes);
  }

  /** All of it; it is then as if none had been sent. Throws unless it is whole. */
  take(): Buffer {
    if (this.#pieces === null) throw new Error("unreachable: the body is not kept");
    const bytes = Buffer.concat(this.#pieces);
    this.forget();
    this.#pieces = [];
    return bytes;
  }

  /** It will not be sent again. */
  forget(): void {
    this.#pieces = null;
    this.#sizeBytes = 0;
  }
}
