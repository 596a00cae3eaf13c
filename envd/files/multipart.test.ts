// The form parser, fed whole, byte by byte, and with what no client should send.
import { describe, expect, test } from "bun:test";
import { ConnectError } from "@connectrpc/connect";
import { boundaryOf, partsOf } from "./multipart.ts";

interface Read {
  readonly name: string;
  readonly fileName: string | null;
  readonly text: string;
}

async function read(text: string, step = text.length || 1): Promise<Read[]> {
  const bytes = Buffer.from(text, "latin1");
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
  }
  const parts: Read[] = [];
  for await (const { name, fileName, body } of partsOf(pieces(), "XX")) {
    const chunks = await Array.fromAsync(body);
    parts.push({ name, fileName, text: Buffer.concat(chunks).toString("latin1") });
  }
  return parts;
}

async function refusal(text: string): Promise<string> {
  try {
    await read(text);
  } catch (error) {
    return ConnectError.from(error).rawMessage;
  }
  throw new Error("the body was taken");
}

const head = (parameters: string) => `Content-Disposition: form-data; ${parameters}\r\n`;
const FORM = [
  `--XX\r\n${head('name="file"; filename="a/b.txt"')}Content-Type: text/plain\r\n\r\none\r\n`,
  `--XX\r\n${head('name="file"; filename="empty"')}\r\n\r\n`,
  `--XX \r\n${head("name=note")}\r\n\r\n--X\r\n--XY-\r\n\r\n`,
  "--XX--\r\nignored",
].join("");

describe("parts", () => {
  for (const step of [1, 2, 3, 7, 1000]) {
    test(`are the same however the body is cut (${step} bytes at a time)`, async () => {
      expect(await read(FORM, step)).toEqual([
        { name: "file", fileName: "a/b.txt", text: "one" },
        { name: "file", fileName: "empty", text: "" },
        { name: "note", fileName: null, text: "\r\n--X\r\n--XY-\r\n" },
      ]);
    });
  }

  test("may come after a preamble and without a last line break", async () => {
    const body = `hello\r\n--XX\r\n${head("name=a")}\r\n1\r\n--XX--`;

    expect(await read(body)).toEqual([{ name: "a", fileName: null, text: "1" }]);
  });

  test("that nobody reads are passed over", async () => {
    const names: string[] = [];
    for await (const { name } of partsOf(new Blob([FORM]).stream(), "XX")) names.push(name);

    expect(names).toEqual(["file", "file", "note"]);
  });

  test("may have escaped and encoded file names", async () => {
    const quoted = await read(`--XX\r\n${head('name="f"; filename="a\\"%22;b"')}\r\n\r\n--XX--`);
    const extended = await read(
      `--XX\r\n${head("name=f; filename=x; filename*=utf-8''%c3%a9")}\r\n\r\n--XX--`,
    );

    expect([quoted[0]?.fileName, extended[0]?.fileName]).toEqual(['a"";b', "é"]);
  });
});

describe("a body is refused", () => {
  test("when it is cut off anywhere", async () => {
    const end = FORM.indexOf("--XX--") + 2;
    for (let length = 0; length < end; length++) {
      expect(await refusal(FORM.slice(0, length))).toContain("ends before its last delimiter");
    }
  });

  test("when a part's head has no end, no disposition, or a delimiter a tail", async () => {
    expect([
      await refusal(`--XX\r\nX: ${"y".repeat(20_000)}`),
      await refusal("--XX\r\nX: y\r\n\r\n\r\n--XX--"),
      await refusal(`--XXYZ\r\n${head("name=a")}\r\n\r\n--XX--`),
    ]).toEqual([
      "multipart body: a part's head is longer than 16384 bytes",
      "multipart body: a part has no content disposition",
      "multipart body: a delimiter is followed by other text",
    ]);
  });
});

describe("a boundary", () => {
  test("is taken plain or quoted", () => {
    expect(boundaryOf("multipart/form-data; boundary=a-b")).toBe("a-b");
    expect(boundaryOf('multipart/form-data; charset=x; Boundary="a b"')).toBe("a b");
  });

  test("must be there and short", () => {
    expect(() => boundaryOf("multipart/form-data")).toThrow("no valid boundary");
    expect(() => boundaryOf(`multipart/form-data; boundary=${"a".repeat(71)}`)).toThrow();
  });
});
