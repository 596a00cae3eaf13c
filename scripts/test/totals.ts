// Suites print what they are and how they went; what all of them counted closes the run.

import { type Counts, failure, NOTHING, sum } from "./bun-test.ts";

export class Totals {
  #counts: Counts = NOTHING;

  /** Runs a suite, which counts as one failure when it throws. */
  async suite(name: string, body: () => Promise<Counts>): Promise<void> {
    console.log(`\n==> ${name}`);
    const startedAtMs = performance.now();
    const counts = await body().catch((error): Counts => {
      console.error(error);
      return failure(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    });
    this.#counts = sum([this.#counts, counts]);
    console.log(`    ${name}: ${countsLine(counts)} (${secondsSince(startedAtMs)} s)`);
  }

  /** Prints the last lines. Returns whether all that was tested passed, and something was. */
  close(): boolean {
    const { flaky, failing, failed, passed } = this.#counts;
    console.log(`\n${flaky.length} flaky`);
    for (const test of flaky) console.log(`    ${test}`);
    for (const what of failing) console.log(`failed: ${what}`);
    // Read by others: nothing else stands on the last line.
    console.log(countsLine(this.#counts));
    return failed === 0 && passed > 0;
  }
}

export function secondsSince(startedAtMs: number): string {
  return ((performance.now() - startedAtMs) / 1000).toFixed(1);
}

function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
