// Keepers and what they keep, with small programs in the place of a VMM.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NATIVE_DIR, openVmmFixture, type VmmFixture } from "../../tests/harness/vmm-fixture.ts";
import { VmmError } from "../vmm/vmm.ts";
import { callOff, endedOnFailure, KeptProcess } from "./kept-process.ts";
import { isAlive, readStartTime } from "./process-identity.ts";
import { startKeeper } from "./start-keeper.ts";

const UID = 219_801;
let place: VmmFixture;
let runDir = "";
let count = 0;

beforeAll(async () => {
  place = await openVmmFixture("tkp0", UID);
});
afterAll(() => place[Symbol.asyncDispose]());
beforeEach(async () => {
  runDir = await place.makeRunDir(`cl-${count++}`);
});
afterEach(() => {
  expect(processesOf(UID)).toEqual([]);
});

function processesOf(uid: number): string[] {
  return readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name) || readStartTime(Number(name)) === null) return false;
    return statSync(`/proc/${name}`, { throwIfNoEntry: false })?.uid === uid;
  });
}

function start(script: string, change: { tap?: string; program?: string } = {}) {
  return startKeeper(NATIVE_DIR, {
    runDir,
    consoleLog: join(place.dir, "console.log"),
    netns: place.netns,
    tap: change.tap ?? place.tap,
    uid: place.uid,
    control: "control.sock",
    cgroupProcsFiles: [],
    files: [],
    devices: [],
    environment: {},
    pager: null,
    fileMaxBytes: 1024 * 1024,
    command: [change.program ?? "/usr/bin/sh", "-c", script],
  });
}

function keeperOf(kept: KeptProcess) {
  return { pid: kept.keeperPid, startTime: kept.keeperStartTime };
}

describe("a kept process", () => {
  test("tells how it ended by itself", async () => {
    const kept = await start("sleep 0.2; echo so long >&2; exit 3");

    expect(await kept.exited).toEqual({
      cause: "vmm",
      reason: "exited",
      status: 3,
      detail: "it was not asked to; its last words: so long",
    });
    expect([isAlive(kept), isAlive(keeperOf(kept))]).toEqual([false, false]);
  });

  test("ends when what follows its start fails, and not before", async () => {
    const kept = await start("trap 'exit 0' TERM; while :; do sleep 0.05; done");

    const ready = await endedOnFailure(kept, "It did not start", async () => {});
    expect([ready === kept, isAlive(kept)]).toEqual([true, true]);
    const failed = endedOnFailure(kept, "It did not start", () =>
      Promise.reject(new Error("no answer")),
    );

    await expect(failed).rejects.toThrow(/^It did not start: ./);
    expect([isAlive(kept), isAlive(keeperOf(kept))]).toEqual([false, false]);
  });

  test("is killed, again and after its end, with one answer", async () => {
    const kept = await start("trap 'exit 0' TERM; while :; do sleep 0.05; done");

    const [first, second] = await Promise.all([kept.kill(), kept.kill()]);

    expect([isAlive(kept), isAlive(keeperOf(kept))]).toEqual([false, false]);
    expect([second, await kept.kill(), await kept.exited]).toEqual([first, first, first]);
    expect(first.detail).toStartWith("it was asked to");
  });

  test("that has been stopped is killed all the same", async () => {
    const kept = await start("kill -STOP $$; sleep 60");

    expect(await kept.kill()).toEqual({
      cause: "vmm",
      reason: "signaled",
      status: 9,
      detail: "it was asked to",
    });
  });

  test("dies with its keeper", async () => {
    const kept = await start("sleep 60 & wait");

    process.kill(kept.keeperPid, "SIGKILL");

    expect(await kept.exited).toEqual({
      cause: "vmm",
      reason: "unknown",
      status: -1,
      detail: "its keeper was killed",
    });
    expect(isAlive(kept)).toBe(false);
  });

  test("is found again by a later agent, which hears of its end", async () => {
    const first = await start("trap 'exit 0' TERM; sleep 60 & wait");
    const found = await KeptProcess.attach(runDir);

    expect(found?.pid).toBe(first.pid);
    const exit = await first.kill();
    expect(await found?.exited).toEqual(exit);
    expect(await KeptProcess.attach(runDir)).toBeNull();
  });

  test("lives on when the program that started it is killed", async () => {
    const script = `
      const { startKeeper } = await import("${join(import.meta.dirname, "start-keeper.ts")}");
      await startKeeper("${NATIVE_DIR}", {
        runDir: "${runDir}", consoleLog: "${join(place.dir, "c.log")}", netns: "${place.netns}",
        tap: "tap0", uid: ${UID}, control: "c.sock", cgroupProcsFiles: [], files: [], devices: [],
        environment: {}, pager: null,
        fileMaxBytes: 1, command: ["/usr/bin/sleep", "60"] });
      process.kill(process.pid, "SIGKILL");`;
    await Bun.spawn([process.execPath, "-e", script]).exited;

    const found = await KeptProcess.attach(runDir);

    expect(found === null ? null : isAlive(found)).toBe(true);
    await found?.kill();
  });
});

describe("a start", () => {
  test("that fails says why and leaves nothing", async () => {
    await expect(start("", { tap: "tap9" })).rejects.toThrow(
      "Cannot start the VMM: open TAP tap9: No such device",
    );
  });

  test("of a program outside /usr is refused by the jail", async () => {
    await expect(start("", { program: "/bin/sh" })).rejects.toThrow(
      "start /bin/sh: No such file or directory",
    );
  });

  test("happens once in a run directory", async () => {
    const first = await start("sleep 60 & wait");

    // What the second start calls off is the directory, and with it the first.
    await expect(start("exit 0")).rejects.toThrow("keeper.json: File exists");
    expect((await first.exited).reason).toBe("unknown");
  });

  test("that was called off does not happen", async () => {
    await callOff(runDir);

    await expect(start("sleep 60")).rejects.toThrow(VmmError);
  });

  test("under way when it is called off ends", async () => {
    const starting = start("sleep 60 & wait").catch((error: unknown) => error);
    await callOff(runDir);

    const outcome = await starting;
    if (outcome instanceof KeptProcess) await outcome.exited;
    await callOff(runDir);

    expect(await KeptProcess.attach(runDir)).toBeNull();
  });
});

describe("records of others", () => {
  test("never lead to a process that only has the pid", async () => {
    const stranger = { pid: process.pid, startTime: "1" };
    const record = { ...stranger, keeperPid: stranger.pid, keeperStartTime: "1" };
    await writeFile(join(runDir, "vmm.json"), JSON.stringify(record));
    await writeFile(join(runDir, "keeper.json"), JSON.stringify(record));

    expect(await KeptProcess.attach(runDir)).toBeNull();
    await callOff(runDir);
  });

  test("are not needed for a run directory that is empty or gone", async () => {
    await mkdir(join(runDir, "empty"));

    expect(await KeptProcess.attach(join(runDir, "empty"))).toBeNull();
    await callOff(join(runDir, "gone"));
  });
});
