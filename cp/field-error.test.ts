import { expect, test } from "bun:test";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { t } from "elysia";
import { fieldError } from "./field-error.ts";

const messageOf = (schema: Parameters<typeof Value.Errors>[0], value: unknown) =>
  fieldError(Value.Errors(schema, value).First(), "query").message;

test("a field with few values is told which", () => {
  const listed = t.Object({ range: t.UnionEnum(["1h", "24h"]) });
  const literals = t.Object({ type: t.Optional(t.Union([t.Literal("a"), t.Literal("b")])) });

  expect(messageOf(listed, { range: "9h" })).toBe("range: expected one of 1h, 24h");
  expect(messageOf(literals, { type: "c" })).toBe("type: expected one of a, b");
});

test("another field is told what kind of value it takes", () => {
  const either = t.Object({ at: t.Union([t.String(), t.Number()]) });

  expect(messageOf(either, { at: true })).toBe("at: expected one of string, number");
  expect(messageOf(t.Object({ n: Type.Integer() }), { n: "x" })).toBe("n: expected integer");
});

test("a field that is not there is told to be missing, one of another form its pattern", () => {
  const schema = t.Object({ cmd: t.String({ pattern: "^[a-z]+$" }) });

  expect(messageOf(schema, {})).toBe("cmd: is missing");
  expect(messageOf(schema, { cmd: "A" })).toBe("cmd: must match ^[a-z]+$");
});
