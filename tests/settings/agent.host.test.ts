// Whoever sets something wrongly reads one sentence about it, and nobody reads a secret.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { loadConfig } from "../../agent/config.ts";
import { findRemains, removeRemains } from "../../scripts/dev/agent-remains.ts";
import { installGuestFiles } from "../../scripts/dev/guest-files.ts";
import { AGENT_IDENTITY } from "../harness/test-certificates.ts";
import { filled, startWrong } from "./start-wrong.ts";
import { AGENT, AGENT_STARTS } from "./wrong-agent-settings.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
const ADDRESS = ["--address", "127.0.0.1:50051"];
const { certPem: cert_pem, keyPem: key_pem, trustedPem: ca_cert_pem } = AGENT_IDENTITY;
const CREDENTIALS = {
  ...{ host_id: `host-${"0".repeat(25)}`, jwt: "hidden", refresh_token: "hidden" },
  ...{ cert_pem, key_pem, ca_cert_pem },
};

let dir: string;
let agentDir: string;
let env: Record<string, string>;
let places: Record<string, string>;
let servers: AsyncDisposableStack;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-settings-"));
  agentDir = join(dir, "agent");
  await installGuestFiles(REPOSITORY, agentDir);
  await writeFile(join(dir, "text"), "no directory");
  servers = new AsyncDisposableStack();
  const serve = (respond: () => Response) => {
    const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: respond });
    servers.defer(() => server.stop(true));
    return `127.0.0.1:${server.port}`;
  };
  const refusal = { error: { code: "unauthorized", message: "token: used" } };
  places = {
    dir,
    refusing: serve(() => Response.json(refusal, { status: 401 })),
    website: serve(() => new Response("<html>")),
    taken: serve(() => new Response("")),
  };
  env = {
    WRENN_DIR: agentDir,
    WRENN_CP_URL: "http://127.0.0.1:9",
    WRENN_HOST_LISTEN_ADDR: "127.0.0.1:0",
    WRENN_NETWORK_POOL: "0",
    WRENN_COW: "copy",
  };
});

afterAll(async () => {
  await servers.disposeAsync();
  await removeRemains(await findRemains(agentDir));
  await Bun.$`umount ${agentDir}/run`.nothrow().quiet();
  await rm(dir, { recursive: true });
});

test.each(AGENT)("$setting=$value: $says", (row) => {
  const wrong = { ...row.with, [row.setting]: row.value };

  expect(() => loadConfig({ ...env, ...wrong }, ADDRESS)).toThrow(new Error(row.says));
});

test.each(AGENT_STARTS)("$setting=$value: $says", async (row) => {
  const credentials = join(agentDir, "host-credentials.json");
  const isAboutListening = row.setting.endsWith("_LISTEN_ADDR");
  if (isAboutListening) await writeFile(credentials, JSON.stringify(CREDENTIALS));
  const main = join(REPOSITORY, "agent/main.ts");

  const ending = await startWrong([process.execPath, main, ...ADDRESS], row, { env, places });

  const sentence = `Cannot go on: ${filled(row.says, places)}`;
  expect([ending.exitCode, ending.last]).toEqual([1, sentence]);
  expect(ending.output).not.toContain("hidden");
});
