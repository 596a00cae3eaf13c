// Drives an envd with the unmodified E2B client and prints what it saw as one line of JSON.
//
// The client's debug mode talks to http://localhost:49983 and nothing else, so this runs in a network
// namespace of its own (see e2b-client.host.test.ts), with an envd that it starts there. An envd that
// ENVD_URL names is reached by that address instead, as through a proxy.
import { mkdtemp, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { CommandExitError, FileNotFoundError, Sandbox } from "e2b";
import { waitFor } from "../harness/wait-for.ts";

const ROOT = resolve(import.meta.dir, "../..");
const { ENVD_URL, ENVD_TOKEN = "" } = process.env;
const dir = await mkdtemp("/tmp/envd-e2b-");
const envd = ENVD_URL ? null : startEnvd();
try {
  const sandbox = ENVD_URL ? reach(ENVD_URL) : await connect();
  const seen = {
    isRunning: await sandbox.isRunning(),
    commands: await commands(sandbox),
    terminal: await terminal(sandbox),
    files: await files(sandbox),
    changes: await changes(sandbox),
  };
  console.log(JSON.stringify(seen));
} finally {
  envd?.kill("SIGTERM");
  await envd?.exited;
  await rm(dir, { recursive: true });
}
process.exit(0);

function startEnvd() {
  return Bun.spawn(
    [
      ...[process.execPath, join(ROOT, "envd/main.ts"), "--programs", join(ROOT, "build/guest")],
      ...["--run-dir", dir, "--etc-dir", dir, "--control-peer", "127.0.0.1"],
      ...["--cgroup-root", "/nowhere"],
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
}

/** What the client itself makes of the control plane's answer to a create. */
function reach(sandboxUrl: string): Sandbox {
  return new Sandbox({
    sandboxId: "itsabox",
    envdVersion: "0.6.13",
    envdAccessToken: ENVD_TOKEN,
    sandboxUrl,
    apiKey: `e2b_${"0".repeat(40)}`,
  });
}

async function connect(): Promise<Sandbox> {
  const sandbox = await Sandbox.create({ debug: true });
  await waitFor("envd to run", () => sandbox.isRunning().catch(() => false));
  // The client runs login shells; what this machine's profiles do is none of the test's business.
  const body = JSON.stringify({ envVars: { HOME: dir } });
  await fetch("http://127.0.0.1:49983/init", { method: "POST", body });
  return sandbox;
}

async function commands(sandbox: Sandbox) {
  const streamed: string[] = [];
  const run = await sandbox.commands.run("echo out; echo err >&2; pwd; echo $A", {
    envs: { A: "b" },
    cwd: "/tmp",
    onStdout: (text) => void streamed.push(text),
  });
  const failed = await sandbox.commands.run("exit 3").catch((error) => error);
  const late = await sandbox.commands
    .run("sleep 60", { timeoutMs: 300 })
    .catch((error) => (error as Error).name);
  const user = await sandbox.commands.run("id -un", { user: "nobody", cwd: "/" });

  const background = await sandbox.commands.run("read line; echo got $line", {
    background: true,
    stdin: true,
  });
  const listed = (await sandbox.commands.list()).some(({ pid }) => pid === background.pid);
  await sandbox.commands.sendStdin(background.pid, "this\n");
  const answered = await background.wait();

  const endless = await sandbox.commands.run("sleep 60", { background: true });
  await endless.disconnect();
  const again = await sandbox.commands.connect(endless.pid);
  const isKilled = await again.kill();
  const ended = await again.wait().catch((error) => (error as CommandExitError).error);
  const isKilledTwice = await sandbox.commands.kill(endless.pid);
  return {
    run: { ...run, streamed: streamed.join("") },
    failed: failed instanceof CommandExitError ? failed.exitCode : String(failed),
    late,
    user: user.stdout,
    background: { listed, stdout: answered.stdout },
    killed: { isKilled, ended, isKilledTwice },
  };
}

async function terminal(sandbox: Sandbox) {
  const decoder = new TextDecoder();
  let shown = "";
  const handle = await sandbox.pty.create({
    cols: 90,
    rows: 20,
    onData: (bytes) => {
      shown += decoder.decode(bytes, { stream: true });
    },
  });
  await sandbox.pty.sendInput(handle.pid, Buffer.from("stty size\n"));
  await sandbox.pty.resize(handle.pid, { cols: 120, rows: 40 });
  await sandbox.pty.sendInput(handle.pid, Buffer.from("stty size; echo $TERM; exit\n"));
  const { exitCode } = await handle.wait();
  return { exitCode, shown };
}

async function files(sandbox: Sandbox) {
  const base = `${dir}/files`;
  const written = await sandbox.files.write(`${base}/a/text`, "héllo");
  await sandbox.files.write([
    { path: `${base}/one`, data: "1" },
    { path: `${base}/two`, data: new Blob([new Uint8Array(100_000)]) },
  ]);
  const text = await sandbox.files.read(`${base}/a/text`);
  const bytes = await sandbox.files.read(`${base}/two`, { format: "bytes" });
  await sandbox.files.write(`${base}/empty`, "");
  const empty = await sandbox.files.read(`${base}/empty`);
  const isMade = await sandbox.files.makeDir(`${base}/made`);
  const isMadeTwice = await sandbox.files.makeDir(`${base}/made`);
  const moved = await sandbox.files.rename(`${base}/one`, `${base}/made/uno`);
  const list = await sandbox.files.list(base, { depth: 2 });
  const info = await sandbox.files.getInfo(`${base}/two`);
  await sandbox.files.remove(`${base}/made`);
  const exists = await sandbox.files.exists(`${base}/made`);
  const missing = await sandbox.files.read(`${base}/made`).catch((error) => error);
  return {
    written: written.path.replace(dir, ""),
    text,
    bytes: bytes.length,
    empty,
    isMade,
    isMadeTwice,
    moved: moved.path.replace(dir, ""),
    list: list.map(({ path, type }) => `${type} ${path.replace(dir, "")}`),
    info: { size: info.size, permissions: info.permissions, owner: info.owner },
    exists,
    isMissing: missing instanceof FileNotFoundError ? true : String(missing),
  };
}

async function changes(sandbox: Sandbox) {
  const watched = `${dir}/watched`;
  await sandbox.files.makeDir(watched);
  const seen: string[] = [];
  const last = Promise.withResolvers<void>();
  const handle = await sandbox.files.watchDir(
    watched,
    ({ name, type, entry }) => {
      seen.push(`${type} ${name} ${entry?.type ?? "-"}`);
      if (type === "remove") last.resolve();
    },
    { recursive: true, includeEntry: true },
  );
  await sandbox.files.write(`${watched}/sub/file`, "x");
  await sandbox.files.remove(`${watched}/sub/file`);
  await last.promise;
  await handle.stop();
  return seen;
}
