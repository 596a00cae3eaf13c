// Makes builds/: the programs of the platform, which run without the repository.
//
//   builds/wrenn-cp       control plane, with its migrations and documentation pages inside
//   builds/wrenn-agent    host agent; beside it libwrenn.so and the programs it starts
//   builds/envd           guest agent for this machine's C library, with its launcher; the bundle that
//                         images carry is build/envd

import { copyFile, mkdir, rename } from "node:fs/promises";
import { join, resolve } from "node:path";
import { run } from "./dev/run.ts";

const ROOT = resolve(import.meta.dirname, "..");
const OUT = join(ROOT, "builds");
const BESIDE_AGENT = ["libwrenn.so", "keeper", "pager", "wrenn-preload.so", "accel-probe.bin"];
/** Settings come from the environment; files that happen to lie in the working directory are none. */
const FLAGS = [
  ...["--compile", "--minify", "--bytecode", "--format=esm"],
  ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
];

process.chdir(ROOT);
await mkdir(OUT, { recursive: true });
await compile("wrenn-cp", ["cp/main.ts"]);
// The native library's Worker is an entry point of its own, found by its path from --root.
await compile("wrenn-agent", ["--root", "agent", "agent/main.ts", "agent/native/worker.ts"]);
for (const name of BESIDE_AGENT) {
  await copyFile(join(ROOT, "build/native", name), join(OUT, `${name}.new`));
  // Renamed into place: a running agent has the old one mapped.
  await rename(join(OUT, `${name}.new`), join(OUT, name));
}
await run([process.execPath, "scripts/build-envd.ts", "--plain", "builds"]);
console.log("builds/wrenn-cp builds/wrenn-agent builds/envd");

async function compile(name: string, entry: string[]): Promise<void> {
  await run([process.execPath, "build", ...FLAGS, `--outfile=${join(OUT, name)}`, ...entry]);
}
