// The rules for C: how it is laid out, and who includes whom.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { format } from "@wasm-fmt/clang-format";
import { loadSources, matches, offences, ROOT, type SourceFile } from "./sources.ts";

const LINES_MAX = 400;
const COLUMNS_MAX = 120;
/** The formatter takes two seconds on an idle machine. */
const FORMAT_TIMEOUT_MS = 60_000;

/** What a folder of native/ includes of others; all may include what lies in native/ itself. */
const INCLUDES: Readonly<Record<string, readonly string[]>> = {
  fuzz: ["..", "guest", "keeper", "network", "pager", "pages", "storage"],
  guest: [],
  keeper: [],
  network: [],
  pager: ["pages"],
  pages: [],
  preload: [],
  storage: [],
};

const sources = await loadSources(["*.c", "*.h"]);
const style = await Bun.file(join(ROOT, ".clang-format")).text();

test(
  "C is formatted as .clang-format says (make fmt)",
  () => {
    expect(
      sources.filter((f) => format(f.text, f.path, style) !== f.text).map((f) => f.path),
    ).toEqual([]);
  },
  FORMAT_TIMEOUT_MS,
);

test(`no C file has more than ${LINES_MAX} lines or ${COLUMNS_MAX} columns`, () => {
  expect(
    offences(sources, (f) => [
      ...(f.lines.length > LINES_MAX + 1 ? [`${f.lines.length} lines`] : []),
      ...f.lines.flatMap((line, i) => (line.length > COLUMNS_MAX ? [`line ${i + 1}`] : [])),
    ]),
  ).toEqual([]);
});

test("a failure is an -errno", () => {
  const positive = /\b(fail|refuse)\(.*[ (,](errno|E[A-Z0-9]+)[,)]/;
  expect(offences(sources, (f) => matches(f, positive))).toEqual([]);
});

test("the folders of native/ include what lies below them", () => {
  expect(
    offences(sources, (f) => {
      const folder = /^native\/(\w+)\/[^/]+$/.exec(f.path)?.[1];
      if (folder === undefined) return [];
      const allowed = [folder, ...(INCLUDES[folder] ?? [])];
      return includes(f).filter((i) => i.includes("/") && !allowed.includes(i.split("/")[0] ?? ""));
    }),
  ).toEqual([]);
});

function includes(file: SourceFile): string[] {
  return [...file.text.matchAll(/^#include "([^"]+)"/gm)].map(([, name]) => name ?? "");
}
