// Bytes of a stream that came and are not used yet. Whoever sends them may cut them anywhere: adding and
// taking cost time in proportion to the bytes, and not to what is there already.

const EMPTY = Buffer.alloc(0);

export class ByteWindow {
  /** Used from `#start` to `#end`, and never written before `#end`: what was taken are windows on it. */
  #store: Buffer = EMPTY;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Behind all others. The bytes are kept as they are, not copied, when there are no others. */
  add(bytes: Buffer): void {
    if (this.#start === this.#end) this.#hold(bytes);
    else {
      this.#grow(bytes.length);
      this.#end += bytes.copy(this.#store, this.#end);
    }
  }

  /** Before all others. */
  putBack(bytes: Buffer): void {
    this.#hold(this.length === 0 ? bytes : Buffer.concat([bytes, this.take(this.length)]));
  }

  /** Counted from the first byte, looked for behind `seen` bytes; -1: it is not there. */
  indexOf(mark: Buffer, seen = 0): number {
    const { length } = this.#store;
    const store = this.#end === length ? this.#store : this.#store.subarray(0, this.#end);
    const at = store.indexOf(mark, this.#start + seen);
    return at < 0 ? -1 : at - this.#start;
  }

  /** The first bytes, which stay. */
  peek(bytes: number): Buffer {
    const end = Math.min(this.#end, this.#start + bytes);
    const isAll = this.#start === 0 && end === this.#store.length;
    return isAll ? this.#store : this.#store.subarray(this.#start, end);
  }

  startsWith(mark: Buffer): boolean {
    return (
      this.length > 0 && this.#store[this.#start] === mark[0] && this.peek(mark.length).equals(mark)
    );
  }

  /** The first bytes, which are used then. */
  take(bytes: number): Buffer {
    const taken = this.peek(bytes);
    this.#start += taken.length;
    if (this.#start === this.#end) this.#hold(EMPTY);
    return taken;
  }

  /** The first bytes in ISO 8859-1, where each is one character; they are used then, and `behind` more. */
  takeText(bytes: number, behind: number): string {
    const end = Math.min(this.#end, this.#start + bytes);
    const text = this.#store.toString("latin1", this.#start, end);
    this.#start = Math.min(this.#end, end + behind);
    if (this.#start === this.#end) this.#hold(EMPTY);
    return text;
  }

  #hold(bytes: Buffer): void {
    this.#store = bytes;
    this.#start = 0;
    this.#end = bytes.length;
  }

  /** Makes room behind the end, in new memory twice as large as what has to be kept. */
  #grow(bytes: number): void {
    if (this.#end + bytes <= this.#store.length) return;
    const kept = this.peek(this.length);
    this.#store = Buffer.allocUnsafe(2 * (kept.length + bytes));
    this.#start = 0;
    this.#end = kept.copy(this.#store);
  }
}
