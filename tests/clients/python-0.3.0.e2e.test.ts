// The suites of the Python client's version 0.3.0 that need a live server, unmodified. What they ask for and
// cannot have is named here: a test that is named and passes is as wrong as one that fails and is not.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { adminClient, platform, sourcedEnv } from "../harness/platform.ts";
import { CODE_RUNNER_TEMPLATE, makeCodeRunnerTemplate } from "./code-runner-template.ts";
import { runSuite } from "./python-suite.ts";

const CLIENT = {
  version: "0.3.0",
  sha256: "ee3398f47e042972866078e40039181efff27ffcd35cad81025e0d674153d816",
};

const BASIC = "test_integration.py";
const ADVANCED = "test_integration_advanced.py";
const CODE_RUNNER = "test_code_runner_e2e.py";

/** What is not for a soak, with how many tests that are: git over the internet, long commands, Jupyter. */
const QUICK = ["TestCommandEnvironment", "TestPty", "TestStreamingExec", "TestProcessConnect"];
const PART = { tests: [BASIC, ...QUICK.map((group) => `${ADVANCED}::${group}`)], count: 78 };
const WHOLE = { tests: [BASIC, ADVANCED, CODE_RUNNER], count: 140 };
const RUN = process.env.WRENN_SOAK === "1" ? WHOLE : PART;

/** They clone from GitHub, install Debian packages or ask httpbingo.org: impossible without the internet. */
const OF_INTERNET = [
  `${CODE_RUNNER}::TestCodeRunnerMimeTypes::test_requests_status_code`,
  ...[
    "test_branches_lists_main",
    "test_clone_checked_out_files",
    "test_clone_created_repo",
    "test_create_and_checkout_branch_in_clone",
    "test_diff_via_commands",
    "test_git_log_has_commit",
    "test_modify_add_commit",
    "test_remote_get_origin",
    "test_status_of_clone_is_clean",
  ].map((name) => `${ADVANCED}::TestGitClone::${name}`),
  `${ADVANCED}::TestGitErrors::test_clone_with_branch`,
  `${ADVANCED}::TestLongRunningCommands::test_apt_get_install`,
  `${ADVANCED}::TestLongRunningCommands::test_apt_installed_binary_runs`,
];
const INTERNET_WAIT_MS = 10_000;

/** Most of it is pip's, the first time. */
const TEMPLATE_TIMEOUT_MS = 1_200_000;

if (RUN === WHOLE) {
  beforeAll(async () => {
    await makeCodeRunnerTemplate(await adminClient(), await platform());
  }, TEMPLATE_TIMEOUT_MS);

  afterAll(async () => {
    const client = await adminClient();
    await client.json("DELETE", `/v1/snapshots/${CODE_RUNNER_TEMPLATE}`);
  });
}

test("the live suites of version 0.3.0 pass, but for what is named", async () => {
  const { passed, failed, skipped, output } = await runSuite(CLIENT, {
    ...{ tests: RUN.tests, env: await sourcedEnv() },
  });

  const isCut = RUN === WHOLE && !(await hasInternet());
  const expected = isCut ? OF_INTERNET : [];
  if (!Bun.deepEquals(failed, expected)) console.log(output);
  expect({ failed, skipped }).toEqual({ failed: expected, skipped: [] });
  expect(passed.length).toBe(RUN.count - expected.length);
}, 1_200_000);

async function hasInternet(): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(INTERNET_WAIT_MS);
    await fetch("https://github.com/", { method: "HEAD", signal });
    return true;
  } catch {
    return false;
  }
}
