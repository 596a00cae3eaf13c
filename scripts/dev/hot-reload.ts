// One program of a running platform, in the foreground, restarted whenever a source file changes.

import { attachPlatform, programOf, startAgent, startControlPlane } from "./platform.ts";

/**
 * Stops the platform's own program, runs it under `bun --watch` with the same settings until Ctrl-C,
 * then starts the platform's own again. Capsules go on all the while.
 */
export async function hotReload(home: string, name: "cp" | "agent"): Promise<void> {
  const platform = await attachPlatform(home);
  await platform.processes.stop(name, { signal: "SIGTERM", graceMs: 35_000 });

  const { command, env, cwd } = programOf(platform, name);
  const [bun = process.execPath, ...program] = command;
  const child = Bun.spawn([bun, "--watch", "--no-clear-screen", ...program], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
  });
  // Ctrl-C reaches the child through the terminal; this program stays to put the platform back.
  process.on("SIGINT", () => undefined);
  await child.exited;

  if (name === "cp") await startControlPlane(platform);
  else await startAgent(platform, () => Promise.reject(new Error("it is registered already")));
}
