import { expect, test } from "bun:test";
import { BoundlessJson, parseBoundedJson } from "./bounded-json.ts";

const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
const list = (values: number) => `[${Array(values).fill("1").join(",")}]`;

test.each([
  "null",
  '{"a":{"b":[1,"x",true,null,{}]},"c":""}',
  '"\\\\"',
  '"\\"[[["',
  `"${"[,{".repeat(50_000)}"`,
  nested(32),
  list(16_384),
])("%.20s is what the platform's parser says", (text) => {
  expect(parseBoundedJson(text)).toEqual(JSON.parse(text));
});

test.each([nested(33), list(16_385), '{"a":'.repeat(33), `["\\"",${list(16_385)}`])(
  "%.20s is too much",
  (text) => {
    expect(() => parseBoundedJson(text)).toThrow(BoundlessJson);
  },
);

test.each(["", "[", '"', '"\\', "]]]", '{"a"}', "1 2"])("%p is no JSON", (text) => {
  expect(() => parseBoundedJson(text)).toThrow(SyntaxError);
});
