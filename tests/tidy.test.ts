// The rules of the layout. A rule that no test holds is a wish: each one here fails when it is broken.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { isTest, loadSources, matches, offences, ROOT } from "./sources.ts";

const LINES_MAX = 400;
const COLUMNS_MAX = 120;
const PROGRAMS = ["cp", "agent", "envd"] as const;

const sources = await loadSources();
const programs = sources.filter((f) => /^(cp|agent|envd|proto)\//.test(f.path));
const own = programs.filter((f) => !isTest(f));

describe("layout", () => {
  test("the programs import proto and never one another", () => {
    expect(
      offences(sources, (f) => {
        const home = f.path.split("/")[0] ?? "";
        const others = home === "proto" ? PROGRAMS : PROGRAMS.filter((p) => p !== home);
        if (!(PROGRAMS as readonly string[]).includes(home) && home !== "proto") return [];
        return f.imports.filter((i) => others.some((o) => i.startsWith(`${o}/`)));
      }),
    ).toEqual([]);
  });

  test("imports inside a feature go from routes to service to queries, never upward", () => {
    const forbidden: Record<string, RegExp> = {
      "schema.ts": /\/(routes|service|queries)\.ts$|^cp\/db\/client\.ts$/,
      "lifecycle.ts": /\/(routes|service|queries)\.ts$|^cp\/db\//,
      "queries.ts": /\/(routes|service)\.ts$/,
      "service.ts": /\/routes\.ts$/,
    };
    expect(
      offences(own, (f) => {
        const rule = forbidden[f.path.split("/").at(-1) ?? ""];
        return rule && f.path.startsWith("cp/") ? f.imports.filter((i) => rule.test(i)) : [];
      }),
    ).toEqual([]);
  });

  test("wire shapes are known to routes, schemas and sessions on WebSockets only", () => {
    const allowed = /(routes|schema)\.ts$|^cp\/streams\//;
    expect(
      offences(own, (f) =>
        f.path.startsWith("cp/") && !allowed.test(f.path)
          ? f.imports.filter((i) => /\/schema\.ts$/.test(i))
          : [],
      ),
    ).toEqual([]);
  });

  test("HTTP is known to routes, the app and auth only", () => {
    const allowed = /^cp\/(app|main)\.ts$|^cp\/(auth|openapi|docs)\/|routes\.ts$|schema\.ts$/;
    expect(
      offences(own, (f) =>
        f.path.startsWith("cp/") && !allowed.test(f.path)
          ? f.imports.filter((i) => /^(elysia|@elysiajs\/)/.test(i))
          : [],
      ),
    ).toEqual([]);
  });

  test("only agent/native uses bun:ffi", () => {
    expect(
      offences(own, (f) =>
        f.path.startsWith("agent/native/") ? [] : f.imports.filter((i) => i === "bun:ffi"),
      ),
    ).toEqual([]);
  });

  test("only main.ts reads the environment", () => {
    expect(
      offences(own, (f) =>
        f.path.endsWith("/main.ts") ? [] : matches(f, /\b(process|Bun)\.env\b/),
      ),
    ).toEqual([]);
  });

  test(".env.example names every setting that a program reads, and no other", async () => {
    // What tests set to make a program fail is no setting; nor is what Bun reads of its own.
    const internal = /^(WRENN_FAILPOINT|BUN_.*)$/;
    const configs = own.filter((f) => /^(cp|agent)\/(config|main)\.ts$/.test(f.path));
    const read = configs.flatMap((f) => [
      ...[...f.text.matchAll(/\benv\.([A-Z][A-Z0-9_]+)/g)].map(([, name]) => name ?? ""),
      ...[...f.text.matchAll(/env, "([A-Z0-9_]+)"|\b([A-Z0-9]+_[A-Z0-9_]+): [a-z]/g)].map(
        ([, quoted, renamed]) => quoted ?? renamed ?? "",
      ),
    ]);
    const example = await Bun.file(join(ROOT, ".env.example")).text();
    const named = [...example.matchAll(/^(?:# )?([A-Z][A-Z0-9_]+)=/gm)].map(
      ([, name]) => name ?? "",
    );

    expect([...new Set(named)].sort()).toEqual(
      [...new Set(read)].filter((name) => !internal.test(name)).sort(),
    );
  });

  test("HTTP statuses of errors are chosen in one place", () => {
    expect(
      offences(own, (f) =>
        /^cp\/(app|errors)\.ts$/.test(f.path) || !f.path.startsWith("cp/")
          ? []
          : matches(f, /\bstatus\((4|5)\d\d|set\.status\s*=\s*(4|5)\d\d/),
      ),
    ).toEqual([]);
  });

  test("every source file is imported by another one or is a program, a test or a script", () => {
    const imported = new Set(sources.flatMap((f) => f.imports));
    const entry =
      /(^|\/)(main|worker|drizzle\.config)\.ts$|^scripts\/|^tests\/|\.(test|d)\.ts$|^rootfs\//;
    expect(sources.map((f) => f.path).filter((p) => !imported.has(p) && !entry.test(p))).toEqual(
      [],
    );
  });

  test("no file has a name without a subject", () => {
    const vague = /(^|\/)(utils?|helpers?|common|misc|shared|types|index|manager-impl)(\.ts|\/)/;
    expect(sources.map((f) => f.path).filter((p) => vague.test(p))).toEqual([]);
  });
});

describe("text", () => {
  test(`no file has more than ${LINES_MAX} lines or ${COLUMNS_MAX} columns`, () => {
    expect(
      offences(sources, (f) => [
        ...(f.lines.length > LINES_MAX + 1 ? [`${f.lines.length} lines`] : []),
        ...f.lines.flatMap((line, i) => (line.length > COLUMNS_MAX ? [`line ${i + 1}`] : [])),
      ]),
    ).toEqual([]);
  });

  // A host's date is set now and then, by an hour in either direction: what waits must not notice.
  test("nothing waits by a clock that somebody sets", () => {
    const guest = "envd/(server|metrics/sampler|files/signature|init/renewal)";
    const telling = new RegExp(
      `^(${guest}|proto/http1/served-exchange|cp/certificates/\\w+)\\.ts$`,
    );
    const asked = /\bDate\.now\(\)|\bnow\(\)\.getTime\(\) \+/;
    const others = programs.filter((f) => !isTest(f) && !telling.test(f.path));
    expect(offences(others, (f) => matches(f, asked))).toEqual([]);
  });

  test("types are never silenced", () => {
    const silenced = /\bas any\b|\bas unknown as\b|@ts-(ignore|nocheck|expect-error)|: any\b/;
    expect(offences(sources, (f) => (f.path.includes("tidy") ? [] : matches(f, silenced)))).toEqual(
      [],
    );
  });

  test("nothing unfinished is left", () => {
    const unfinished = /\b(TODO|FIXME|XXX|HACK)\b|not (yet )?implemented/i;
    expect(
      offences(sources, (f) => (f.path.includes("tidy") ? [] : matches(f, unfinished))),
    ).toEqual([]);
  });

  test("comments do not narrate changes", () => {
    const narrating =
      /\/\/.*\b(no longer|used to|previously|was changed|refactored|as requested)\b/i;
    expect(
      offences(sources, (f) => (f.path.includes("tidy") ? [] : matches(f, narrating))),
    ).toEqual([]);
  });

  test("tests use real parts and can fail", () => {
    const empty = /mock\.module|toHaveBeenCalled|\.(skip|only|todo)\(|expect\(true\)|spyOn\(/;
    expect(
      offences(sources.filter(isTest), (f) => (f.path.includes("tidy") ? [] : matches(f, empty))),
    ).toEqual([]);
  });
});
