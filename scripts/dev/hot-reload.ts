// One program of a running platform, in the foreground, restarted whenever a source file changes.

import { lockPlatform } from "./operation-lock.ts";
import { attachPlatform } from "./platform.ts";
import { agentProgram, controlPlaneProgram, startAgent, startControlPlane } from "./programs.ts";

/**
 * Stops the platform's own program, runs it under `bun --watch` with the same settings until Ctrl-C,
 * then starts the platform's own again. Capsules go on all the while.
 */
export async function hotReload(home: string, name: "cp" | "agent"): Promise<void> {
  const platform = await attachPlatform(home);
  const { processes, dir } = platform;
  const program = name === "cp" ? controlPlaneProgram(platform) : agentProgram(platform);
  const lock = () => lockPlatform(dir.path, { name: `make dev-${name}` });

  let child: Bun.Subprocess;
  {
    using _lock = await lock();
    await processes.stop(name, program.stop);
    const [bun = process.execPath, ...rest] = program.command;
    child = Bun.spawn([bun, "--watch", "--no-clear-screen", ...rest], {
      cwd: program.cwd ?? "/",
      env: { ...process.env, ...program.env },
      stdio: ["ignore", "inherit", "inherit"],
    });
    // The supervisor sees it run, and whoever stops the platform ends both.
    await processes.enter(child.pid, program);
    await processes.enter(process.pid, { name: "reloader", command: [], env: {} });
  }
  let isStopped = false;
  process.on("SIGTERM", () => {
    isStopped = true;
    child.kill("SIGTERM");
  });
  // Ctrl-C reaches the child through the terminal; this program stays to put the platform back.
  process.on("SIGINT", () => undefined);
  await child.exited;
  if (isStopped) return;

  using _lock = await lock();
  if (name === "cp") await startControlPlane(platform);
  else await startAgent(platform, () => Promise.reject(new Error("it is registered already")));
}
