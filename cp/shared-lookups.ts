// Look-ups that many requests make at once. While one is under way, whoever asks for the same thing
// shares the next: what many ask for costs one query per round trip instead of one per request, and still
// every answer was read after it was asked for, so what was revoked or has moved is seen at once.

interface Lookup<Value> {
  readonly value: Promise<Value>;
  /** What those who came since the query was sent wait for. */
  next: Promise<Value> | null;
}

export class SharedLookups<Asked, Value> {
  readonly #look: (asked: Asked) => Promise<Value>;
  readonly #keyOf: (asked: Asked) => string;
  /** One entry per key that is being looked up. */
  readonly #underWay = new Map<string, Lookup<Value>>();

  /** Those with the same key ask for the same thing. */
  constructor(look: (asked: Asked) => Promise<Value>, keyOf: (asked: Asked) => string) {
    this.#look = look;
    this.#keyOf = keyOf;
  }

  /**
   * The value, read from now on, and maybe the same object for several: it is not to be changed. Throws
   * what the look-up throws, as do those that share it.
   */
  of(asked: Asked): Promise<Value> {
    const key = this.#keyOf(asked);
    const current = this.#underWay.get(key);
    if (current === undefined) return this.#start(key, asked);
    current.next ??= current.value.then(
      () => this.#start(key, asked),
      () => this.#start(key, asked),
    );
    return current.next;
  }

  #start(key: string, asked: Asked): Promise<Value> {
    const lookup: Lookup<Value> = { value: this.#look(asked), next: null };
    this.#underWay.set(key, lookup);
    const end = () => {
      if (lookup.next === null) this.#underWay.delete(key);
    };
    lookup.value.then(end, end);
    return lookup.value;
  }
}
