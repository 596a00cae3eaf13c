// Look-ups that many requests make at once. The first of a round of the event loop is made at once; whoever
// asks after it in the same round, or while enough queries are under way, shares the next query. So what many
// ask for costs few queries instead of one per request, and still every answer was read after it was asked
// for: what was revoked or has moved is seen at once.

/** Queries at once: a slow one does not hold up all others. */
const QUERIES_MAX = 4;
/** Things in one query. */
const ASKED_MAX = 256;

/** What one query asks for: each thing once. */
class Batch<Asked, Value> {
  readonly asked = new Map<string, Asked>();
  readonly #values = Promise.withResolvers<ReadonlyMap<string, Value>>();

  async of(key: string, asked: Asked): Promise<Value | undefined> {
    this.asked.set(key, asked);
    return (await this.#values.promise).get(key);
  }

  end(values: Promise<ReadonlyMap<string, Value>>): void {
    this.#values.resolve(values);
  }
}

export class SharedLookups<Asked, Value> {
  readonly #look: (asked: readonly Asked[]) => Promise<readonly Value[]>;
  readonly #keyOf: (asked: Asked) => string;
  readonly #keyOfValue: (value: Value) => string;
  /** Those whose query was sent. */
  readonly #underWay = new Set<Batch<Asked, Value>>();
  /** Those whose query was not, in turn; whoever comes is in the last. */
  readonly #waiting: Batch<Asked, Value>[] = [];
  /** In this round of the event loop. */
  #hasStarted = false;

  /** `look` finds what there is of all that is asked for; the keys tell what is whose. */
  constructor(options: {
    look: (asked: readonly Asked[]) => Promise<readonly Value[]>;
    keyOf: (asked: Asked) => string;
    keyOfValue: (value: Value) => string;
  }) {
    this.#look = options.look;
    this.#keyOf = options.keyOf;
    this.#keyOfValue = options.keyOfValue;
  }

  /**
   * The value, read from now on, and maybe the same object for several: it is not to be changed;
   * undefined when there is none. Throws what the look-up throws, as do those that share it.
   */
  of(asked: Asked): Promise<Value | undefined> {
    const key = this.#keyOf(asked);
    const batch = this.#next(key);
    const value = batch.of(key, asked);
    if (!this.#hasStarted && this.#isNew(batch)) this.#start();
    return value;
  }

  #next(key: string): Batch<Asked, Value> {
    const last = this.#waiting.at(-1);
    if (last !== undefined && (last.asked.size < ASKED_MAX || last.asked.has(key))) return last;
    const batch = new Batch<Asked, Value>();
    this.#waiting.push(batch);
    return batch;
  }

  /** Something in it is not under way: what is waits for its own query to end. */
  #isNew({ asked }: Batch<Asked, Value>): boolean {
    for (const key of asked.keys()) if (!this.#isUnderWay(key)) return true;
    return false;
  }

  #start(): void {
    if (this.#underWay.size >= QUERIES_MAX) return;
    const batch = this.#waiting.shift();
    if (batch === undefined) return;
    this.#underWay.add(batch);
    this.#gather();
    const values = this.#valuesOf(batch);
    batch.end(values);
    const end = () => {
      this.#underWay.delete(batch);
      this.#start();
    };
    values.then(end, end);
  }

  /** From now on those who ask share what is started at the end of the event loop's round. */
  #gather(): void {
    if (this.#hasStarted) return;
    this.#hasStarted = true;
    setImmediate(() => {
      this.#hasStarted = false;
      const [next] = this.#waiting;
      if (next !== undefined && this.#isNew(next)) this.#start();
    });
  }

  async #valuesOf({ asked }: Batch<Asked, Value>): Promise<ReadonlyMap<string, Value>> {
    const found = await this.#look([...asked.values()]);
    return new Map(found.map((value) => [this.#keyOfValue(value), value]));
  }

  #isUnderWay(key: string): boolean {
    for (const { asked } of this.#underWay) if (asked.has(key)) return true;
    return false;
  }
}
