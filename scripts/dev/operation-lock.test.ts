import { expect, test } from "bun:test";
import { lockPlatform, tryLockPlatform } from "./operation-lock.ts";

const path = `/run/wrenn-dev/test-${crypto.randomUUID()}`;

test("one has the lock at a time, another waits for it and hears for whom", async () => {
  const first = tryLockPlatform(path, "make dev-up");
  const heard = Promise.withResolvers<string>();
  const second = lockPlatform(path, { name: "make dev-down", waiting: heard.resolve });

  expect(await heard.promise).toBe(`make dev-up (pid ${process.pid})`);
  expect(tryLockPlatform(path, "supervisor")).toBeNull();
  first?.[Symbol.dispose]();

  using _second = await second;
  expect(tryLockPlatform(path, "supervisor")).toBeNull();
});

test("platforms do not wait for one another", () => {
  using one = tryLockPlatform(path, "one");
  using other = tryLockPlatform(`${path}-other`, "other");

  expect([one, other]).not.toContain(null);
});

// Whoever is killed can't give it back, and a platform without a lock can't be stopped.
test("the lock of a process that is killed is free", async () => {
  const script = `
    import { tryLockPlatform } from ${JSON.stringify(`${import.meta.dirname}/operation-lock.ts`)};
    tryLockPlatform(${JSON.stringify(path)}, "killed");
    console.log("locked");
    await Bun.sleep(60_000);`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
  await child.stdout.getReader().read();
  expect(tryLockPlatform(path, "early")).toBeNull();

  child.kill("SIGKILL");

  using _lock = await lockPlatform(path, { name: "after" });
});
