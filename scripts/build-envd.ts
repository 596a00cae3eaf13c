// Builds the guest agent.
// Usage: bun scripts/build-envd.ts [--bundle build/envd] [--plain builds] [--programs build/guest]
//
// --bundle (the default) makes the directory that a guest has as /usr/lib/envd: envd with a C library
// and loader of its own, so that the same bytes run in glibc and musl images, and the static programs
// it starts processes with. --plain makes <dir>/envd for this machine's own C library, and the
// programs beside it; --programs makes only these. Same sources and tools, same bytes.
import { chmod, copyFile, mkdir, mkdtemp, realpath, rename, rm, utimes } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { $ } from "bun";

const ROOT = resolve(import.meta.dir, "..");
const GUEST_DIR = "/usr/lib/envd";
const LOADER = "ld-linux-x86-64.so.2";
/** What the loader says that Bun needs; see `readelf -d`. */
const LIBRARIES = [LOADER, "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"];
const LIBRARY_DIRS = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"];
/** What native/guest/start.c, which is `envd`, executes. */
const RUNTIME = "envd-runtime";
/** Their sources in native/guest. */
const SOURCES: Readonly<Record<string, readonly string[]>> = {
  launch: ["launch"],
  winsize: ["winsize"],
  renew: ["renew", "message"],
  watch: ["watch", "watched"],
  "file-calls": ["file-calls", "message", "attributes", "publish"],
  envd: ["start"],
};
const PROGRAMS = Object.keys(SOURCES);
const C_FLAGS = [
  ..."-std=gnu17 -D_GNU_SOURCE -O2 -static -s -Wl,--build-id=none".split(" "),
  ..."-Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes".split(" "),
  ..."-Wmissing-prototypes -Wvla".split(" "),
];
/** Nothing of envd depends on when it was built. */
const BUILT_AT = new Date(Number(process.env.SOURCE_DATE_EPOCH ?? 0) * 1000);

const { values } = parseArgs({
  options: {
    bundle: { type: "string" },
    plain: { type: "string" },
    programs: { type: "string" },
  },
});
$.cwd(ROOT);
const isBundleMeant = values.plain === undefined && values.programs === undefined;
const bundle = values.bundle ?? (isBundleMeant ? "build/envd" : null);
if (bundle !== null) await buildBundle(resolve(ROOT, bundle));
if (values.plain !== undefined) await buildPlain(resolve(ROOT, values.plain));
if (values.programs !== undefined) await buildPrograms(resolve(ROOT, values.programs));

async function buildBundle(target: string): Promise<void> {
  await mkdir(join(target, ".."), { recursive: true });
  const dir = await mkdtemp(`${target}.`);
  try {
    const runtime = join(dir, "runtime");
    await copyFile(process.execPath, runtime);
    await chmod(runtime, 0o755);
    await $`patchelf --set-interpreter ${GUEST_DIR}/${LOADER} --set-rpath ${GUEST_DIR} --force-rpath ${runtime}`;
    await compile(join(dir, RUNTIME), runtime);
    await rm(runtime);
    for (const library of LIBRARIES) await copyFile(await findLibrary(library), join(dir, library));
    await buildPrograms(dir);
    await seal(dir, [RUNTIME, ...LIBRARIES, ...PROGRAMS]);
    await chmod(dir, 0o755);
    await rm(target, { recursive: true, force: true });
    await rename(dir, target);
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
}

async function buildPlain(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  await compile(join(dir, RUNTIME), process.execPath);
  await buildPrograms(dir);
  await seal(dir, [RUNTIME, ...PROGRAMS]);
}

/** A guest's working directory is not to be trusted with settings, hence no autoload. */
async function compile(outfile: string, runtime: string): Promise<void> {
  const flags = [
    ..."--compile --minify --bytecode --format=esm".split(" "),
    ..."--no-compile-autoload-dotenv --no-compile-autoload-bunfig".split(" "),
    `--compile-executable-path=${runtime}`,
    `--outfile=${outfile}`,
  ];
  await $`${process.execPath} build envd/main.ts ${flags}`.quiet();
}

/** Other tests may be running them, so each is made aside and renamed. */
async function buildPrograms(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  for (const [program, names] of Object.entries(SOURCES)) {
    const sources = names.map((name) => `native/guest/${name}.c`);
    const made = join(dir, `${program}.${process.pid}`);
    await $`musl-gcc ${C_FLAGS} -o ${made} ${sources}`;
    await rename(made, join(dir, program));
  }
}

async function findLibrary(name: string): Promise<string> {
  for (const dir of LIBRARY_DIRS) {
    const path = join(dir, name);
    if (await Bun.file(path).exists()) return realpath(path);
  }
  throw new Error(`Cannot find ${name} in ${LIBRARY_DIRS.join(", ")}: install libc6`);
}

async function seal(dir: string, names: string[]): Promise<void> {
  for (const name of names) {
    const path = join(dir, basename(name));
    await chmod(path, 0o755);
    await utimes(path, BUILT_AT, BUILT_AT);
  }
}
