// The suite of the first Python client, unmodified, below the base path that is for it.

import { beforeAll, expect, test } from "bun:test";
import { journalRows } from "../harness/leaks.ts";
import { adminClient, platform, sourcedEnv } from "../harness/platform.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";
import { runSuite } from "./python-suite.ts";

const CLIENT = {
  version: "0.1.2",
  sha256: "9ce7775bdade46663d3855dbe47ab485d8faed7230053e19f025e08584ed167f",
};

const LIVE = "test_integration.py";
/** What is not for a soak, with how many tests that are: most of a capsule's files and of git wait for guests. */
const PART = {
  tests: [
    ...["test_capsule_features.py", "test_client.py", "test_filesystem_pty.py", "test_git.py"],
    ...["TestCapsuleLifecycle", "TestCommands"].map((group) => `${LIVE}::${group}`),
  ],
  count: 255,
};
const WHOLE = { tests: ["."], count: 277 };
const RUN = process.env.WRENN_SOAK === "1" ? WHOLE : PART;

/** It gives up on a create after 5 s, which an emulated guest that boots can take. */
beforeAll(async () => {
  const client = await adminClient();
  const { id } = await client.create();
  await client.destroy(id);
  const { agentDir } = (await platform()).dir;
  await waitFor("the end of what the agent boots by itself", () => journalRows(agentDir), {
    holds: (rows) => rows.length === 0,
    timeoutMs: GUEST_MS,
  });
}, 300_000);

test("the suite of version 0.1.2 passes below /compat/0.1", async () => {
  const env = await sourcedEnv();
  const { passed, failed, skipped, output } = await runSuite(CLIENT, {
    tests: RUN.tests,
    env: { ...env, WRENN_BASE_URL: `${env.WRENN_BASE_URL}/compat/0.1` },
  });

  if (failed.length > 0) console.log(output);
  expect({ passed: passed.length, failed, skipped }).toEqual({
    ...{ passed: RUN.count, failed: [], skipped: [] },
  });
}, 600_000);
