import { describe, expect, test } from "bun:test";
import { isAlive, parseStartTime, readStartTime, signalProcess } from "./process-identity.ts";

const NO_PID = 4_194_304;

function statLine(name: string, state: string, startTime: string): string {
  const fields = Array.from({ length: 18 }, (_, i) => String(i));
  return `42 (${name}) ${state} ${fields.join(" ")} ${startTime} 1 2 3\n`;
}

function identityOf(pid: number) {
  const startTime = readStartTime(pid);
  if (startTime === null) throw new Error(`process ${pid} does not live`);
  return { pid, startTime };
}

describe("parseStartTime", () => {
  test("counts fields after the name, whatever it holds", () => {
    expect(parseStartTime(statLine("a) Z 1 (b", "S", "777"))).toBe("777");
  });

  test("takes the dead for gone", () => {
    expect(parseStartTime(statLine("x", "Z", "777"))).toBeNull();
    expect(parseStartTime(statLine("x", "X", "777"))).toBeNull();
  });

  test("refuses what is no stat line", () => {
    expect(["", "42 (x", "42 (x) S 1 2", statLine("x", "S", "-1")].map(parseStartTime)).toEqual([
      null,
      null,
      null,
      null,
    ]);
  });
});

describe("a process", () => {
  test("is known by pid and start time", () => {
    const own = identityOf(process.pid);

    expect(isAlive(own)).toBe(true);
    expect(isAlive({ ...own, startTime: `${own.startTime}0` })).toBe(false);
    expect(isAlive({ ...own, pid: NO_PID })).toBe(false);
  });

  test("that has another start time is not signalled", async () => {
    await using child = Bun.spawn(["sleep", "60"]);
    const identity = identityOf(child.pid);

    expect(signalProcess({ ...identity, startTime: "1" }, "SIGKILL")).toBe(false);
    expect(isAlive(identity)).toBe(true);
    expect(signalProcess(identity, "SIGKILL")).toBe(true);
    await child.exited;
    expect(isAlive(identity)).toBe(false);
    expect(signalProcess(identity, "SIGKILL")).toBe(false);
  });
});
