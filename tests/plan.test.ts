// Holds the programs against their plan: a house whose rooms import one another at will is one room.

import { expect, test } from "bun:test";
import { dirname } from "node:path";
import { HOUSES, type House } from "./plan.ts";
import { isTest, loadSources, offences } from "./sources.ts";

type Program = keyof typeof HOUSES;

const sources = await loadSources();
const own = sources.filter((f) => /^(cp|agent|envd|proto)\//.test(f.path) && !isTest(f));
const PROGRAMS = Object.keys(HOUSES) as Program[];

test("every room of a program is in its plan, and every door is there", () => {
  const found = new Set(own.map((f) => dirname(f.path)).filter((folder) => folder.includes("/")));
  const paths = new Set(sources.map((f) => f.path));
  const missing = PROGRAMS.flatMap((program) =>
    HOUSES[program].rooms.flatMap(({ name, doors }) =>
      doors
        .map((door) => `${program}/${name}/${door}.ts`)
        // Which of the usual files a noun has is its own affair.
        .filter((path) => !paths.has(path) && !/\/(service|schema|lifecycle|deps)\.ts$/.test(path)),
    ),
  );

  expect(missing).toEqual([]);
  expect([...found].filter((folder) => /^(cp|agent|envd)\//.test(folder)).sort()).toEqual(
    PROGRAMS.flatMap((p) => HOUSES[p].rooms.map(({ name }) => `${p}/${name}`)).sort(),
  );
});

test("a room imports what stands below it, and nothing above", () => {
  expect(
    offences(own, (f) => {
      const home = addressOf(f.path);
      if (home === null || home.floor === "roof") return [];
      return f.imports.filter((i) => {
        const other = addressOf(i);
        if (other === null || other.program !== home.program || other.floor === home.floor) {
          return false;
        }
        return other.floor === "roof" || home.floor === "ground" || isAbove(other, home);
      });
    }),
  ).toEqual([]);
});

test("rooms are entered through their doors", () => {
  expect(
    offences(own, (f) => {
      const home = addressOf(f.path);
      if (home === null) return [];
      return f.imports.filter((i) => {
        const other = addressOf(i);
        if (other === null || other.program !== home.program || typeof other.floor !== "number") {
          return false;
        }
        if (other.floor === home.floor) return false;
        // The roof mounts routes and starts loops.
        if (home.floor === "roof" && /routes\.ts$|^cp\/loops\//.test(i)) return false;
        const house: House = HOUSES[other.program];
        return !house.rooms[other.floor]?.doors.includes(i.split("/").at(-1)?.slice(0, -3) ?? "");
      });
    }),
  ).toEqual([]);
});

test("no files import one another in a circle, types included", () => {
  const graph = new Map(own.map((f) => [f.path, f.imports.filter((i) => !i.includes("gen/"))]));

  // A connection and the exchange on it are one thing in two files: each calls the other.
  expect(circles(graph)).toEqual([["proto/http1/server-connection.ts", "proto/http1/exchange.ts"]]);
});

test("what is exported is used by another file", () => {
  const users = new Map<string, Set<string>>();
  for (const file of sources) {
    for (const [from, names] of file.names) {
      const known = users.get(from) ?? new Set();
      for (const name of names) known.add(name);
      users.set(from, known);
    }
  }
  const exported = /^export (?:async )?(?:abstract )?(?:function\*?|class|const|let) (\w+)/gm;

  expect(
    offences(
      sources.filter((f) => !f.path.endsWith(".d.ts")),
      (f) => {
        const used = users.get(f.path) ?? new Set();
        if (used.has("*")) return [];
        return [...f.text.matchAll(exported)]
          .map(([, name = ""]) => name)
          .filter((n) => !used.has(n));
      },
    ),
  ).toEqual([]);
});

interface Address {
  readonly program: Program;
  readonly floor: number | "ground" | "roof";
}

/** Where a file is; null outside of the houses. */
function addressOf(path: string): Address | null {
  const program = PROGRAMS.find((p) => path.startsWith(`${p}/`));
  if (program === undefined) return null;
  const house: House = HOUSES[program];
  const folder = dirname(path).slice(program.length + 1);
  if (folder === "") {
    const name = path.slice(program.length + 1).replace(/\.ts$/, "");
    return { program, floor: house.roof.includes(name) ? "roof" : "ground" };
  }
  const floor = house.rooms.findIndex(({ name }) => name === folder);
  return floor < 0 ? null : { program, floor };
}

function isAbove(other: Address, home: Address): boolean {
  return (
    typeof other.floor === "number" && typeof home.floor === "number" && other.floor > home.floor
  );
}

/** The sets of files that can each be reached from the others: Tarjan's strongly connected components. */
function circles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const stack: string[] = [];
  const visit = (node: string): number => {
    const index = order.size;
    order.set(node, index);
    stack.push(node);
    let lowest = index;
    for (const next of graph.get(node) ?? []) {
      if (!graph.has(next)) continue;
      const known = order.get(next);
      if (known === undefined) lowest = Math.min(lowest, visit(next));
      else if (stack.includes(next)) lowest = Math.min(lowest, known);
    }
    if (lowest === index) {
      const circle = stack.splice(stack.indexOf(node));
      if (circle.length > 1) found.push(circle);
    }
    return lowest;
  };
  for (const node of graph.keys()) if (!order.has(node)) visit(node);
  return found;
}
