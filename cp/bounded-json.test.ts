import { expect, test } from "bun:test";
import { TimeSlice } from "../proto/time-slice.ts";
import { BoundlessJson, parseBoundedJson, parseLargeJson } from "./bounded-json.ts";

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

test("a large text is looked over in steps, whatever lies where one ends", async () => {
  const step = 256 * 1024;
  const boundary = (text: string, before: number) => `["${"a".repeat(step - before - 2)}${text}"]`;
  const quoted = `\\"${"[".repeat(33)}`;
  const whole = [quoted, "\\\\", "\\u0041", "[[["].flatMap((text) =>
    [0, 1, 2, 3].map((before) => boundary(text, before)),
  );
  const tooMuch = ["", "\\\\"].flatMap((text) =>
    [1, 2, 20].map((before) => boundary(`${text}",${nested(32)},"`, before)),
  );

  for (const text of whole) {
    expect(await parseLargeJson(text, new TimeSlice())).toEqual(JSON.parse(text));
  }
  for (const text of tooMuch) {
    await expect(parseLargeJson(text, new TimeSlice())).rejects.toThrow(BoundlessJson);
  }
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
