// What all tests of a file share.

import { afterAll } from "bun:test";

/**
 * Starts it for the tests of the file that awaits this at its top, and takes it down behind the last of
 * them, before what that file takes down itself.
 */
export async function forThisFile<Shared extends AsyncDisposable>(
  starting: Promise<Shared>,
): Promise<Shared> {
  const shared = await starting;
  afterAll(() => shared[Symbol.asyncDispose]());
  return shared;
}
