// Every setting has a row that says what happens when it is wrong.

import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { AGENT_CHOICES } from "../../scripts/dev/settings.ts";
import { AGENT, AGENT_STARTS } from "./wrong-agent-settings.ts";
import { CONTROL_PLANE, CONTROL_PLANE_STARTS, PLATFORM } from "./wrong-settings.ts";

test("each setting of .env.example is tried with a wrong value", async () => {
  const path = resolve(import.meta.dirname, "../../.env.example");
  const example = await Bun.file(path).text();
  const named = [...example.matchAll(/^(?:# )?([A-Z][A-Z0-9_]+)=/gm)].map(([, name]) => name ?? "");
  const rows = [...CONTROL_PLANE, ...CONTROL_PLANE_STARTS, ...AGENT, ...AGENT_STARTS];
  const tried = new Set(rows.map(({ setting }) => setting));

  expect(named.filter((name) => !tried.has(name))).toEqual([]);
});

test("each setting that sudo lets through to a development platform is tried, too", async () => {
  const makefile = await Bun.file(resolve(import.meta.dirname, "../../Makefile")).text();
  const choices = /^CHOICES := (\S+)$/m.exec(makefile)?.[1]?.split(",") ?? [];
  const tried = new Set([...PLATFORM, ...AGENT].map(({ setting }) => setting));

  expect(choices.filter((name) => !tried.has(name))).toEqual([]);
  expect(choices).toEqual(["DATABASE_URL", "REDIS_URL", ...AGENT_CHOICES]);
});
