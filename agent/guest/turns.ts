// A guest may send small messages faster than they are handled, and each that is there already is
// handled before any timer or other guest has its turn.

/** What handling the messages of one guest may hold up everybody else. */
const TURN_MS = 10;

/** The messages, with a turn of everybody else's in between. */
export async function* inTurns<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  let turnSince = performance.now();
  for await (const message of messages) {
    yield message;
    if (performance.now() - turnSince < TURN_MS) continue;
    const { promise, resolve } = Promise.withResolvers<void>();
    setImmediate(resolve);
    await promise;
    turnSince = performance.now();
  }
}
