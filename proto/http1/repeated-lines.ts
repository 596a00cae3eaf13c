// Header lines that come again and again on a connection, as those of most programs do: what was made of
// them once is kept as long as they are. Lines that came once keep nothing, for that would cost more.

const repeated = new WeakSet<readonly object[]>();

/** From now on what is made of these very lines may be kept. They must not change any more. */
export function markRepeated<T extends readonly object[]>(lines: T): T {
  repeated.add(lines);
  return lines;
}

export function isRepeated(lines: readonly object[]): boolean {
  return repeated.has(lines);
}

/** What one maker has made of lines. */
export class LinesCache<T> {
  readonly #made = new WeakMap<readonly object[], T>();

  get(lines: readonly object[]): T | undefined {
    return this.#made.get(lines);
  }

  /** Keeps what was made, if the lines are repeated ones. */
  keep(lines: readonly object[], made: T): T {
    if (isRepeated(lines)) this.#made.set(lines, made);
    return made;
  }
}
