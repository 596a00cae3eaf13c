// Rows of the benchmark's table: a figure of ours beside its baseline, taken in the same run.

export interface Row {
  readonly name: string;
  readonly unit: "ms" | "MB/s" | "req/s" | "MiB" | "pages/s" | "faults";
  readonly ours: number;
  readonly baseline: number;
  /** Of runs that were taken in turn: the median of each pair's, else that of the two figures. */
  readonly ratio?: number;
  readonly baselineIs: string;
  /** How many runs each median is of. */
  readonly runs: number;
}

/** The middle value; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)];
  const lower = sorted[Math.ceil(middle) - 1];
  if (upper === undefined || lower === undefined) throw new Error("Median of no values");
  return (upper + lower) / 2;
}

/** Milliseconds that the body takes. */
export async function timed(body: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await body();
  return performance.now() - startedAt;
}

/**
 * Runs both in turn, ours first in even rounds and the baseline first in odd ones, so that a machine whose
 * speed drifts treats them alike. Returns the medians, that of each pair's ratio too: a slow minute hits both
 * sides of a pair.
 */
export async function inTurn(
  runs: number,
  ours: () => Promise<number>,
  baseline: () => Promise<number>,
): Promise<{ ours: number; baseline: number; ratio: number; runs: number }> {
  const figures = { ours: [] as number[], baseline: [] as number[] };
  for (let i = 0; i < runs; i++) {
    const order = i % 2 === 0 ? (["ours", "baseline"] as const) : (["baseline", "ours"] as const);
    for (const side of order) figures[side].push(await (side === "ours" ? ours() : baseline()));
  }
  const ratios = figures.ours.map((value, i) => value / (figures.baseline[i] ?? Number.NaN));
  const medians = { ours: median(figures.ours), baseline: median(figures.baseline) };
  return { ...medians, ratio: median(ratios), runs };
}

export function printTable(rows: readonly Row[]): void {
  console.log("\n| what | ours | baseline | ratio | baseline is | runs |");
  console.log("| --- | ---: | ---: | ---: | --- | ---: |");
  for (const row of rows) {
    const figure = (value: number) => `${value.toFixed(value < 10 ? 2 : 0)} ${row.unit}`;
    const ratio = (row.ratio ?? row.ours / row.baseline).toFixed(2);
    console.log(
      `| ${row.name} | ${figure(row.ours)} | ${figure(row.baseline)} | ${ratio} | ${row.baselineIs} | ${row.runs} |`,
    );
  }
}
