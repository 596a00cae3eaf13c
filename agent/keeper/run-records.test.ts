import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readKeeperRecord, readVmmExit, readVmmRecord } from "./run-records.ts";

let runDir = "";
beforeAll(async () => {
  runDir = await mkdtemp(join(tmpdir(), "wrenn-records-"));
});
afterAll(async () => {
  await rm(runDir, { recursive: true });
});

describe("records of a keeper", () => {
  test("that are not there are null", async () => {
    const read = [readKeeperRecord(runDir), readVmmRecord(runDir), readVmmExit(runDir)];

    expect(await Promise.all(read)).toEqual([null, null, null]);
  });

  test("are read as the keeper writes them", async () => {
    const record = { pid: 7, startTime: "100", keeperPid: 6, keeperStartTime: "99" };
    await writeFile(join(runDir, "vmm.json"), JSON.stringify(record));
    const end = '{"reason":"signaled","status":9,"wasAsked":true,"stderr":"bye\\u000a"}';
    await writeFile(join(runDir, "exit.json"), end);

    expect(await readVmmRecord(runDir)).toEqual(record);
    expect(await readVmmExit(runDir)).toEqual({
      cause: "vmm",
      reason: "signaled",
      status: 9,
      detail: "it was asked to; its last words: bye",
    });
  });

  test("tell a VMM that lost its pager from one whose pager ended with it", async () => {
    const start = '{"reason":"signaled","status":9,"wasAsked":false,"stderr":"",';
    const file = join(runDir, "exit.json");

    await writeFile(file, `${start}"pager":{"reason":"signaled","status":9}}`);
    const lost = await readVmmExit(runDir);
    await writeFile(file, `${start}"pager":{"reason":"exited","status":0}}`);
    const ended = await readVmmExit(runDir);

    expect([lost?.cause, ended?.cause]).toEqual(["pager", "vmm"]);
    expect(lost?.detail).toBe("it was not asked to; its pager signaled, 9");
  });

  for (const text of ["", "{", "[]", '{"pid":0}', '{"pid":7,"startTime":"-1","keeperPid":6}']) {
    test(`are refused when they say ${JSON.stringify(text)}`, async () => {
      await writeFile(join(runDir, "vmm.json"), text);

      await expect(readVmmRecord(runDir)).rejects.toThrow("is not what a keeper writes");
    });
  }
});
