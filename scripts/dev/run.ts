// Running a program to its end, and waiting for one to answer.

const READY_TIMEOUT_MS = 30_000;
const POLL_MS = 25;
/** What a program says last is why it failed; more of it is for its log. */
const REASON_MAX = 300;

/**
 * Runs a program to its end and returns what it printed. When it fails, throws a sentence with its name
 * and its last line on standard error; never its arguments or environment, which may hold secrets. `env`:
 * all of its environment but PATH; omitted: that of this process.
 */
export async function run(
  command: readonly string[],
  options: { name?: string; env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  const child = Bun.spawn([...command], {
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.env ? { env: { PATH: process.env.PATH ?? "", ...options.env } } : {}),
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status === 0) return stdout;
  const last = stderr.trim().split("\n").at(-1) || `it ended with ${status}`;
  const reason = last.replace(/^Cannot start: /, "");
  throw new Error(`${options.name ?? command[0]}: ${reason.slice(0, REASON_MAX)}`);
}

/** Thrown by an attempt that knows that further ones are in vain. */
export class GaveUp extends Error {}

/** Tries until it does not throw; in the end says what is not there, with the last error as cause. */
export async function waitFor(
  what: string,
  attempt: () => Promise<void>,
  timeoutMs = READY_TIMEOUT_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      if (cause instanceof GaveUp) throw cause;
      if (performance.now() > deadline) {
        const seconds = timeoutMs / 1000;
        throw new Error(`${what} does not answer after ${seconds} s: ${messageOf(cause)}`, {
          cause,
        });
      }
      await Bun.sleep(POLL_MS);
    }
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
