// A fault of the driver: postgres.js gathers what is to be written until the end of the event loop's round, and
// throws into nowhere when the connection was lost meanwhile (`nextWrite` in its connection.js, 3.4.9). The
// query itself is rejected on its own, so nothing is lost but the exception.

/** Whether an uncaught error is that fault, and the process may go on. Names are other ones when minified. */
export function isLostWrite(error: unknown): boolean {
  const pattern = /^null is not an object \(evaluating '[\w$]+\.write'\)$/;
  return error instanceof TypeError && pattern.test(error.message);
}
