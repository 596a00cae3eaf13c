// The source files of the repository, as the rules of its layout look at them.

import { dirname, join, relative } from "node:path";

export const ROOT = join(import.meta.dirname, "..");

export interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  /** Packages as written, own files as paths from the root. */
  readonly imports: readonly string[];
  /** Names that it takes from own files, by their paths; `*` is all of them. */
  readonly names: ReadonlyMap<string, readonly string[]>;
}

/** Every file of a language but generated ones, those not committed yet too. */
export async function loadSources(patterns: readonly string[] = ["*.ts"]): Promise<SourceFile[]> {
  const listed = Bun.spawnSync(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", ...patterns],
    { cwd: ROOT },
  );
  const paths = listed.stdout.toString().split("\n");
  const wanted = paths.filter((p) => p !== "" && !p.startsWith("proto/gen/"));
  return Promise.all(wanted.map(loadSource));
}

export function isTest(file: SourceFile): boolean {
  return /\.test\.ts$/.test(file.path) || file.path.startsWith("tests/");
}

export function matches(file: SourceFile, pattern: RegExp): string[] {
  return file.lines.flatMap((line, i) =>
    pattern.test(line) ? [`line ${i + 1}: ${line.trim()}`] : [],
  );
}

/** What `find` finds in the files, a line each. */
export function offences(
  files: readonly SourceFile[],
  find: (file: SourceFile) => readonly string[],
): string[] {
  return files.flatMap((file) => find(file).map((what) => `${file.path}: ${what}`));
}

async function loadSource(path: string): Promise<SourceFile> {
  const text = await Bun.file(join(ROOT, path)).text();
  const fromRoot = (name: string) =>
    name.startsWith(".") ? relative(ROOT, join(ROOT, dirname(path), name)) : name;
  // Regular expressions, not a parser: imports of types count, too.
  const found = text.matchAll(/(?:from|import|import\()\s*"([^"]+)"|new URL\("([^"]+)"/g);
  const imports = [...found].map(([, imported, url]) => fromRoot(imported ?? url ?? ""));
  const names = new Map<string, string[]>();
  const named =
    /^(?:import|export)(?: type)? (?:\w+, )?(?:\{([^}]*)\}|\*(?: as \w+)?) from "([^"]+)"/gm;
  for (const [, listed, from = ""] of text.matchAll(named)) {
    const taken = listed?.split(",").map((n) => /(?:type )?(\w+)/.exec(n)?.[1] ?? "") ?? ["*"];
    names.set(fromRoot(from), [...(names.get(fromRoot(from)) ?? []), ...taken]);
  }
  return { path, text, lines: text.split("\n"), imports, names };
}
