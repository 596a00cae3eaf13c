// Look-ups that many requests make at once. While one is under way, whoever asks for the same key
// shares the next: a busy key costs one query per round trip instead of one per request, and still
// every answer was read after it was asked for, so what was revoked is seen at once.

interface Lookup<Value> {
  readonly value: Promise<Value>;
  /** What those who came since the query was sent wait for. */
  next: Promise<Value> | null;
}

export class SharedLookups<Value> {
  readonly #look: (key: string) => Promise<Value>;
  /** One entry per key that is being looked up. */
  readonly #underWay = new Map<string, Lookup<Value>>();

  constructor(look: (key: string) => Promise<Value>) {
    this.#look = look;
  }

  /** The value, read from now on. Throws what the look-up throws, as do those that share it. */
  of(key: string): Promise<Value> {
    const current = this.#underWay.get(key);
    if (current === undefined) return this.#start(key);
    current.next ??= current.value.then(
      () => this.#start(key),
      () => this.#start(key),
    );
    return current.next;
  }

  #start(key: string): Promise<Value> {
    const lookup: Lookup<Value> = { value: this.#look(key), next: null };
    this.#underWay.set(key, lookup);
    const end = () => {
      if (lookup.next === null) this.#underWay.delete(key);
    };
    lookup.value.then(end, end);
    return lookup.value;
  }
}
