// Whoever starts a development platform with a wrong setting reads one sentence about it, nobody reads a
// secret, and nothing is left running.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { findDevDir, locateDevDir } from "../../scripts/dev/dev-dir.ts";
import { Processes } from "../../scripts/dev/processes.ts";
import { deletePlatform, stopPlatform } from "../../scripts/dev/stop-platform.ts";
import { filled, startWrong } from "./start-wrong.ts";
import { PLATFORM } from "./wrong-settings.ts";

const MAIN = resolve(import.meta.dirname, "../../scripts/dev/main.ts");
const TEST_TIMEOUT_MS = 120_000;

let dir: string;
let home: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-settings-"));
  home = join(dir, "dev");
  await writeFile(join(dir, "text"), "no directory");
});

afterAll(async () => {
  await stopPlatform(home);
  await rm(dir, { recursive: true });
});

test.each(PLATFORM)(
  "$setting=$value: $says",
  async (row) => {
    const { path } = await locateDevDir(home);
    const places = { dir, path };
    const command = [process.execPath, MAIN, "up"];

    const ending = await startWrong(command, row, { env: { DEV_DIR: home }, places });

    const said = `Cannot continue: ${filled(row.says, places)}`;
    expect([ending.exitCode, ending.last]).toEqual([1, said]);
    expect(await secretsIn(`${ending.output}${await logs()}`)).toEqual([]);
    expect(await new Processes(path).names()).toEqual([]);
    expect(await findDevDir(home)).toBeNull();
    await deletePlatform(home);
  },
  TEST_TIMEOUT_MS,
);

/** All that the programs wrote. */
async function logs(): Promise<string> {
  return await Bun.$`cat ${home}/logs/*.log`.nothrow().quiet().text();
}

async function secretsIn(text: string): Promise<string[]> {
  const saved = await Bun.file(join(home, "secrets.json"))
    .json()
    .catch(() => ({}));
  return ["hidden", ...Object.values<string>(saved)].filter((secret) => text.includes(secret));
}
