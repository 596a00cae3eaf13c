// A program for guests that counts in its own memory: only what goes on from there has its number.

/**
 * In perl, which every Debian has. A shell starts a program for each moment that it waits, and an emulated
 * processor has nothing left for others then.
 *
 * @param path - Twenty times a second it holds the next count and, behind a blank, a number that is another one
 *   for each start of the program.
 * @returns The arguments of `perl`, none with a single quote.
 */
export function tickerArgs(path: string): ["-e", string] {
  const tick = `open F, ">", "${path}.new"; print F "$i $n\\n"; close F; rename "${path}.new", "${path}"`;
  return [
    "-e",
    `$n = int rand 1e9; for ($i = 1;; $i++) { ${tick}; select undef, undef, undef, 0.05 }`,
  ];
}

/** As a line of shell, in the background; once it ends there is a first count. */
export function tickerLine(path: string): string {
  const [flag, script] = tickerArgs(path);
  return `perl ${flag} '${script}' >/dev/null 2>&1 & until [ -e ${path} ]; do sleep 0.1; done`;
}
