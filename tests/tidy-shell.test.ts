// What is written for a shell is checked by shellcheck, since nothing compiles it.

import { expect, test } from "bun:test";
import { ROOT } from "./sources.ts";

/** Two seconds on an idle machine. */
const TIMEOUT_MS = 60_000;

test(
  "scripts for a shell have no errors and no traps",
  async () => {
    const listed = Bun.spawnSync(
      ["git", "ls-files", "-co", "--exclude-standard", "*.sh", ".ci/run"],
      {
        cwd: ROOT,
      },
    );
    const scripts = listed.stdout
      .toString()
      .split("\n")
      .filter((name) => name !== "");

    const { exitCode, stdout } = await Bun.$`shellcheck --severity=warning ${scripts}`
      .cwd(ROOT)
      .nothrow()
      .quiet();

    expect(scripts).toContain("scripts/setup-host.sh");
    expect([stdout.toString(), exitCode]).toEqual(["", 0]);
  },
  TIMEOUT_MS,
);
