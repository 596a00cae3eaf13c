// The template that the Python client's code runner starts capsules from, made as a user makes one: a capsule
// gets packages, a Jupyter server and a kernel, and a snapshot of it, with both running, is the template.

import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Platform } from "../../scripts/dev/settings.ts";
import type { Client } from "../harness/client.ts";
import { CapsulePort } from "../harness/guest-server.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";
import { call, DIR, PYTHON } from "./python-suite.ts";

/** What the client asks for by itself: see its `code_runner/capsule.py`. */
export const CODE_RUNNER_TEMPLATE = "code-runner-beta";
const KERNEL = "wrenn";
const JUPYTER_PORT = 8888;

/** Every package with its exact version, none of which pip may add to. */
const PACKAGES = join(import.meta.dirname, "code-runner-packages.txt");
const WARM_KERNEL = join(import.meta.dirname, "warm-kernel.py");
/** Debian 12's, which the base image has, whatever this machine has. */
const GUEST_PYTHON = "3.11";
const GUEST_PLATFORMS = ["manylinux2014_x86_64", "manylinux_2_28_x86_64"];
const SITE_PACKAGES = `usr/local/lib/python${GUEST_PYTHON}/dist-packages`;

/** As Jupyter's own files say it, below its prefix for what an administrator installs. */
const SETTINGS = {
  // Who may ask is the platform's business, and its clients send neither token nor cookie.
  ServerApp: { ip: "0.0.0.0", port: JUPYTER_PORT, open_browser: false, disable_check_xsrf: true },
  IdentityProvider: { token: "" },
};
const KERNEL_SPEC = {
  argv: ["/usr/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
  display_name: "Wrenn",
  language: "python",
};

/** The libraries that the tests use, and Jupyter, have room in it. */
const MEMORY_MB = 1024;
const EXEC_SEC = 600;

/** Makes the template in the client's team. Throws what a user would see if a step fails. */
export async function makeCodeRunnerTemplate(client: Client, dev: Platform): Promise<void> {
  const tree = await packTree();
  const { id } = await client.create({ vcpus: 1, memory_mb: MEMORY_MB });
  try {
    await unpack(client, id, tree);
    await startJupyter(client, new CapsulePort(dev, id, JUPYTER_PORT), id);
    await client.write(id, "/tmp/warm-kernel.py", await Bun.file(WARM_KERNEL).text());
    await sh(client, id, "python3 /tmp/warm-kernel.py && rm /tmp/warm-kernel.py");
    await client.json("POST", "/v1/snapshots", { sandbox_id: id, name: CODE_RUNNER_TEMPLATE });
  } finally {
    await client.destroy(id);
  }
}

async function unpack(client: Client, id: string, tree: string): Promise<void> {
  const form = new FormData();
  form.append("path", "/tmp/tree.tar");
  form.append("file", Bun.file(tree), "tree.tar");
  const route = `/v1/capsules/${id}/files/stream/write`;
  const response = await client.fetch(route, { method: "POST", body: form });
  if (!response.ok) throw new Error(`${route}: ${response.status} ${await response.text()}`);
  await sh(client, id, "sudo tar -xf /tmp/tree.tar -C / && rm /tmp/tree.tar");
}

async function startJupyter(client: Client, port: CapsulePort, id: string): Promise<void> {
  const args = ["-m", "jupyter_server"];
  await client.exec(id, { cmd: "python3", args, background: true, tag: "jupyter" });
  const isUp = async () => (await port.fetch("/api/status")).status === 200;
  await waitFor("the Jupyter server", isUp, { timeoutMs: GUEST_MS, everyMs: 500 });
  const response = await port.fetch("/api/kernels", {
    method: "POST",
    body: JSON.stringify({ name: KERNEL }),
  });
  if (response.status !== 201) throw new Error(`no kernel: ${await response.text()}`);
}

async function sh(client: Client, id: string, line: string): Promise<void> {
  const { exit_code: status, stderr } = await client.sh(id, line, { timeout_sec: EXEC_SEC });
  if (status !== 0) throw new Error(`${line} ended with ${status}: ${stderr}`);
}

/** A tar archive of what the capsule gets below `/`; made when it is first needed, kept in build/clients. */
async function packTree(): Promise<string> {
  const sources = [PACKAGES, import.meta.path].map((path) => Bun.file(path).text());
  const text = (await Promise.all(sources)).join("\n");
  const key = new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, 8);
  const archive = join(DIR, `code-runner-${key}.tar`);
  if (await Bun.file(archive).exists()) return archive;

  const work = join(DIR, `code-runner-${key}`);
  const root = join(work, "root");
  await rm(work, { recursive: true, force: true });
  await mkdir(root, { recursive: true });
  await installPackages(work, join(root, SITE_PACKAGES));
  const files = {
    "etc/jupyter/jupyter_server_config.json": SETTINGS,
    [`share/jupyter/kernels/${KERNEL}/kernel.json`]: KERNEL_SPEC,
  };
  for (const [path, content] of Object.entries(files)) {
    await Bun.write(join(root, "usr/local", path), JSON.stringify(content));
  }
  // A third of the files, for editors and for who works on the packages.
  const omitted = ["--exclude=tests", "--exclude=*.pyi"];
  const owner = ["--owner=0", "--group=0", "--numeric-owner"];
  await call(["tar", ...owner, ...omitted, "-cf", `${archive}.new`, "usr"], root);
  await rename(`${archive}.new`, archive);
  await rm(work, { recursive: true });
  return archive;
}

/** Compiles them, too, which saves the guest that if this machine has the same Python. */
async function installPackages(work: string, target: string): Promise<void> {
  const venv = join(work, "venv");
  await call([PYTHON, "-m", "venv", venv], work);
  const pip = [join(venv, "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"];
  const packages = ["--no-deps", "--only-binary=:all:", `--requirement=${PACKAGES}`];
  const platforms = GUEST_PLATFORMS.map((platform) => `--platform=${platform}`);
  const guest = [...platforms, `--python-version=${GUEST_PYTHON}`, `--target=${target}`];
  await call([...pip, "install", ...packages, ...guest], work);
}
