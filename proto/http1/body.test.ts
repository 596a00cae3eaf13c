import { expect, test } from "bun:test";
import { bodyReader, readPayload } from "./body.ts";
import { MalformedHttp } from "./head.ts";

const CHUNKED = 'a;ext="x"\r\n0123456789\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\nGET / next';

test("chunks end where they end, wherever the pieces are cut", () => {
  for (let cut = 0; cut <= CHUNKED.length; cut++) {
    const pieces = [Buffer.from(CHUNKED.slice(0, cut)), Buffer.from(CHUNKED.slice(cut))];
    const reader = bodyReader("chunked");
    const payload: string[] = [];
    let length = 0;
    for (const piece of pieces) {
      const read = readPayload(reader, piece);
      payload.push(read.payload.toString());
      length += read.end;
    }

    expect([cut, reader.isDone, length, payload.join("")]).toEqual([
      cut,
      true,
      CHUNKED.indexOf("GET"),
      "0123456789!",
    ]);
  }
});

test.each([
  ["no size", "\r\n"],
  ["a size that is no number", "zz\r\n"],
  ["a signed size", "-1\r\n"],
  ["a size with a prefix", "0x1\r\na\r\n"],
  ["a size beyond all numbers", "ffffffffffffffffff\r\n"],
  ["a size that no number holds exactly", "20000000000001\r\n"],
  ["a bare line feed after the size", "1\na\r\n"],
  ["a line feed in an extension", "1;a\nb\r\na\r\n"],
  ["more than its size", "1\r\nab\r\n"],
  ["a bare line feed after the data", "1\r\na\n"],
  ["a line feed in a trailer", "0\r\nA: b\nC: d\r\n\r\n"],
  ["endless trailers", `0\r\n${"A: b\r\n".repeat(5000)}`],
  ["endless extensions", `1;${"a".repeat(5000)}`],
])("a chunk with %s is malformed", (_, text) => {
  expect(() => bodyReader("chunked").read(Buffer.from(text))).toThrow(MalformedHttp);
});

test("a body of known length takes its bytes and leaves the rest", () => {
  const reader = bodyReader(5);

  expect(reader.read(Buffer.from("abc"))).toBe(3);
  expect(readPayload(reader, Buffer.from("defgh"))).toEqual({ payload: Buffer.from("de"), end: 2 });
  expect(reader.isDone).toBe(true);
});
