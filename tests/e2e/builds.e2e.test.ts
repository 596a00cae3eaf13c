// The compiled programs in a directory of their own, away from the repository, make a platform.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFile, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { api, createApiKey, createHost, signUp } from "../../scripts/dev/account.ts";
import { callAgent } from "../../scripts/dev/agent-certificate.ts";
import { freePort } from "../../scripts/dev/ports.ts";
import { Processes } from "../../scripts/dev/processes.ts";
import { run, waitFor } from "../../scripts/dev/run.ts";
import { Client } from "../harness/client.ts";
import { agentTag, kernelObjects } from "../harness/leaks.ts";
import { platform } from "../harness/platform.ts";

const BUILDS = resolve(import.meta.dirname, "../../builds");
const TIMEOUT_MS = 180_000;
const DATABASE = `builds_${process.pid}`;

let dir: string;
let processes: Processes;
let baseUrl: string;
let cpEnv: Record<string, string>;

beforeAll(async () => {
  const running = await platform();
  // On the agent's file system, so that root disks are reflinks here, too.
  dir = await mkdtemp(join(running.dir.agentDir, "builds-"));
  await run(["chmod", "0755", dir]);
  for (const file of await readdir(BUILDS)) {
    await copyFile(join(BUILDS, file), join(dir, file));
  }
  processes = new Processes(dir);
  await using admin = new Bun.SQL(running.databaseUrl, { max: 1 });
  await admin.unsafe(`create database ${DATABASE}`);

  const port = await freePort();
  baseUrl = `http://localhost:${port}`;
  cpEnv = {
    ...running.cpEnv,
    DATABASE_URL: running.databaseUrl.replace(/\/[^/]*$/, `/${DATABASE}`),
    WRENN_CP_LISTEN_ADDR: `127.0.0.1:${port}`,
    CP_PUBLIC_URL: baseUrl,
    WRENN_MAIL_DIR: join(dir, "mail"),
    // The platform beside it listens there.
    WRENN_TLS_CERT: "",
    WRENN_TLS_KEY: "",
  };
}, TIMEOUT_MS);

afterAll(async () => {
  const { databaseUrl } = await platform();
  for (const name of await processes.names()) {
    await processes.stop(name, { signal: "SIGTERM", graceMs: 30_000 });
  }
  await using admin = new Bun.SQL(databaseUrl, { max: 1 });
  await admin.unsafe(`drop database ${DATABASE} with (force)`);
  await rm(dir, { recursive: true, force: true });
}, TIMEOUT_MS);

test(
  "the control plane migrates, refuses before that, and serves its documentation",
  async () => {
    const refused = Bun.spawnSync([join(dir, "wrenn-cp")], { cwd: "/", env: cpEnv });
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr.toString()).toContain("migrate");

    const migrated = Bun.spawnSync([join(dir, "wrenn-cp"), "migrate"], { cwd: "/", env: cpEnv });
    expect(migrated.exitCode).toBe(0);
    await processes.start({ name: "cp", command: [join(dir, "wrenn-cp")], env: cpEnv, cwd: "/" });
    await answers(`${baseUrl}/health`);

    for (const path of ["/openapi.json", "/openapi.yaml", "/docs", "/docs/swagger-ui-bundle.js"]) {
      const response = await fetch(`${baseUrl}${path}`);
      expect({ path, status: response.status }).toEqual({ path, status: 200 });
    }
  },
  TIMEOUT_MS,
);

test(
  "the agent registers, runs a capsule, and leaves nothing when it is terminated",
  async () => {
    const running = await platform();
    const jwt = await signUp(baseUrl, {
      email: "builds@wrenn.localhost",
      password: "correct horse battery staple",
      name: "Builds",
      mailDir: join(dir, "mail"),
    });
    const client = new Client(baseUrl, { "x-api-key": await createApiKey(baseUrl, jwt, "builds") });
    const agentDir = join(dir, "agent");
    await run(["mkdir", agentDir]);
    for (const name of ["kernels", "images"]) {
      await symlink(join(running.dir.agentDir, name), join(agentDir, name));
    }
    const address = `127.0.0.1:${await freePort()}`;
    const metricsAddress = `127.0.0.1:${await freePort()}`;
    const token = await createHost(baseUrl, jwt);
    const record = await processes.start({
      name: "agent",
      command: [join(dir, "wrenn-agent"), "--register", token, "--address", address],
      env: {
        ...{ WRENN_DIR: agentDir, WRENN_CP_URL: baseUrl },
        ...{ WRENN_HOST_LISTEN_ADDR: address, WRENN_METRICS_LISTEN_ADDR: metricsAddress },
      },
      cwd: "/",
    });
    await answers(`http://${metricsAddress}/health`);

    const capsule = await client.create({ memory_mb: 256 });
    expect((await client.sh(capsule.id, "echo from a build")).stdout).toBe("from a build\n");

    const agent = await callAgent(running.secrets, { agentDir, address });
    await agent.terminate({});
    expect(await processes.ended(record, 60_000)).toBe(true);
    expect(await kernelObjects(agentDir, await agentTag(agentDir))).toEqual({
      netns: [],
      links: [],
      nftTables: [],
      loops: [],
      mounts: [],
      cgroups: [],
      slotClaims: [],
      processes: [],
      files: [],
      rows: [],
    });
    await api(baseUrl, "/health");
  },
  TIMEOUT_MS,
);

function answers(url: string): Promise<void> {
  return waitFor(url, async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    if (!response.ok) throw new Error(`${response.status}`);
  });
}
