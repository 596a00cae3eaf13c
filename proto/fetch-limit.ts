// How many requests to agents, and of an agent to its guests, may be under way at once.
//
// Bun has at most 256 fetches of a process under way and lets all others wait, so that many silent
// commands of one team would hold up every call of all others. (Bun 1.4.5: with 300 commands of
// 4 s under way a short one waited 1.7 s.) The limit is read from the environment once, before any
// of our code runs; so a process that finds it unset replaces itself, keeping its pid.

const VARIABLE = "BUN_CONFIG_MAX_HTTP_REQUESTS";
/** The largest value that Bun takes; open files end it earlier. */
const REQUESTS_MAX = 65_535;

/** Returns when the limit is raised: in this process, or in the one that replaces it. */
export function raiseFetchLimit(env: Readonly<Record<string, string | undefined>>): void {
  if (env[VARIABLE] !== undefined || process.execve === undefined) return;
  // A compiled program has a made-up path in the place of the script's.
  const isCompiled = process.argv[1]?.startsWith("/$bunfs/") ?? false;
  const script = process.argv.slice(isCompiled ? 2 : 1);
  const variables = Object.entries(env).filter((entry): entry is [string, string] => {
    return entry[1] !== undefined;
  });
  process.execve(process.execPath, [process.argv0, ...process.execArgv, ...script], {
    ...Object.fromEntries(variables),
    [VARIABLE]: String(REQUESTS_MAX),
  });
}
