// The form parser, fed whole, byte by byte, and with what no client should send.

import { describe, expect, test } from "bun:test";
import { longestPauseMs, PAUSE_MS_MAX, threadMs } from "../../tests/harness/longest-pause.ts";
import { readMultipart } from "./multipart.ts";

const TYPE = "multipart/form-data; boundary=XX";
const PARTS_MAX = 16;

interface Read {
  readonly name: string;
  readonly fileName: string | null;
  readonly text: string;
}

interface Form {
  readonly type?: string;
  readonly partsMax?: number;
  /** Bytes that come at once; all of them unless it is given. */
  readonly step?: number;
}

/** The parser over the body as it comes. */
function partsOf(body: string | Uint8Array, { type, partsMax, step }: Form = {}) {
  const bytes = typeof body === "string" ? Buffer.from(body, "latin1") : body;
  const stepBytes = step ?? (bytes.length || 1);
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += stepBytes) yield bytes.subarray(at, at + stepBytes);
  }
  return readMultipart(pieces(), type ?? TYPE, {
    partsMax: partsMax ?? PARTS_MAX,
    malformed: (why, cause) => new Error(why, { cause }),
  });
}

async function read(body: string | Uint8Array, form: Form = {}): Promise<Read[]> {
  const parts: Read[] = [];
  for await (const { name, fileName, content } of partsOf(body, form)) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) chunks.push(chunk.slice());
    parts.push({ name, fileName, text: Buffer.concat(chunks).toString("latin1") });
  }
  return parts;
}

async function refusal(body: string, form: Form = {}): Promise<string> {
  const error = await read(body, form).catch((error: unknown) => error);
  return error instanceof Error ? error.message : "it was taken";
}

const head = (parameters: string) => `Content-Disposition: form-data${parameters}\r\n`;
const FORM = [
  `--XX\r\n${head('; name="file"; filename="a/b.txt"')}Content-Type: text/plain\r\n\r\none\r\n`,
  `--XX\r\n${head('; name="file"; filename="empty"')}\r\n\r\n`,
  `--XX \r\n${head("; name=note")}\r\n\r\n--X\r\n--XY-\r\n\r\n`,
  "--XX--\r\nignored",
].join("");

describe("parts", () => {
  test("are the same however the body is cut", async () => {
    for (let step = 1; step <= FORM.length; step++) {
      expect(await read(FORM, { step })).toEqual([
        { name: "file", fileName: "a/b.txt", text: "one" },
        { name: "file", fileName: "empty", text: "" },
        { name: "note", fileName: null, text: "\r\n--X\r\n--XY-\r\n" },
      ]);
    }
  });

  test("may come after a preamble and without a last line break", async () => {
    const body = `hello\r\n--a b\r\n${head("; name=a")}\r\n1\r\n--a b--`;

    const parts = await read(body, { type: 'multipart/form-data; boundary="a b"', step: 3 });

    expect(parts).toEqual([{ name: "a", fileName: null, text: "1" }]);
  });

  test("that the platform's own encoder writes are read back", async () => {
    const form = new FormData();
    form.append("path", "/tmp/ü");
    form.append("file", new Blob([new Uint8Array([0, 13, 10, 45, 45, 255])]), 'odd "name".bin');
    const request = new Request("http://localhost", { method: "POST", body: form });
    const type = request.headers.get("content-type") ?? "";

    const parts = await read(await request.bytes(), { type, step: 5 });

    expect(parts).toEqual([
      { name: "path", fileName: null, text: Buffer.from("/tmp/ü").toString("latin1") },
      { name: "file", fileName: 'odd "name".bin', text: "\x00\r\n--\xff" },
    ]);
  });

  test("that nobody reads are passed over", async () => {
    const names: string[] = [];
    for await (const { name } of partsOf(FORM)) names.push(name);

    expect(names).toEqual(["file", "file", "note"]);
  });

  test("stay as they were while the reader goes on", async () => {
    const kept: Uint8Array[] = [];
    for await (const { content } of partsOf(FORM, { step: 9 })) {
      for await (const chunk of content) kept.push(chunk);
    }

    expect(Buffer.concat(kept).toString("latin1")).toBe("one\r\n--X\r\n--XY-\r\n");
  });

  test("may have escaped and encoded file names, or no name", async () => {
    const fileNames = ['; name="f"; filename="a\\"%22;b"', "; filename=x; filename*=utf-8''%c3%a9"];
    const read2 = fileNames.map((parameters) => read(`--XX\r\n${head(parameters)}\r\n\r\n--XX--`));
    const [quoted, extended] = await Promise.all(read2);

    expect([quoted?.[0]?.fileName, extended?.[0]?.fileName]).toEqual(['a"";b', "é"]);
    expect(extended?.[0]?.name).toBe("");
    expect((await read(`--XX\r\n${head("")}\r\nx\r\n--XX--`))[0]?.name).toBe("");
  });
});

describe("a body is refused", () => {
  test("when it is cut off anywhere", async () => {
    const end = FORM.indexOf("--XX--") + 2;
    for (let length = 0; length < end; length++) {
      expect(await refusal(FORM.slice(0, length))).toBe("the body ends before its last delimiter");
    }
  });

  const part = (lines: string) => `--XX\r\n${lines}\r\n\r\n--XX--`;
  test.each([
    ["no multipart at all", "hello", "the body ends before its last delimiter"],
    [
      "a head without end",
      `--XX\r\nX: ${"y".repeat(20_000)}`,
      "a part's head is longer than 16384 bytes",
    ],
    [
      "a head of too many bytes",
      part(`X: ${"y".repeat(16_000)}\r\nY: ${"y".repeat(1000)}\r\n`),
      "a part's head is longer than 16384 bytes",
    ],
    ["too many headers", part("X: y\r\n".repeat(17)), "a part has more than 16 headers"],
    ["no disposition", part("X: y\r\n"), "a part has no content disposition"],
    [
      "a tail at a delimiter",
      `--XXYZ\r\n${head("")}\r\n\r\n--XX--`,
      "a delimiter is followed by other text",
    ],
    [
      "endless blanks at a delimiter",
      `--XX${" ".repeat(100)}\r\n${head("")}\r\n\r\n--XX--`,
      "a delimiter is followed by other text",
    ],
    ["a name without end", part(head('; name="a')), "a parameter is malformed"],
    ["two names", part(head("; name=a; name=b")), "name is given twice"],
    ["too many parts", `${part(head("")).slice(0, -2)}\r\n`.repeat(17), "there are more than 16"],
  ])("for %s", async (_what, body, why) => {
    expect(await refusal(body, { step: 512 })).toStartWith(why);
  });
});

test.each([
  ["none", "multipart/form-data", "the content type has no valid boundary"],
  ["a long one", `multipart/form-data; boundary=${"a".repeat(71)}`, "the content type has no"],
  ["two", "multipart/form-data; boundary=a; boundary=b", "boundary is given twice"],
  ["another type's", "application/json; boundary=XX", "the content type must be multipart"],
])("the boundary must be there and short: %s", async (_what, type, why) => {
  expect(await refusal(FORM, { type })).toStartWith(why);
});

test("the boundary is taken plain or quoted, among other parameters", async () => {
  const types = [
    "multipart/form-data; Boundary=XX",
    'Multipart/Form-Data;charset=x; boundary="XX"',
  ];

  const read2 = await Promise.all(types.map((type) => read(FORM, { type })));

  expect(read2.map((parts) => parts.length)).toEqual([3, 3]);
});

describe("a mebibyte of", () => {
  const MIB = 1024 * 1024;
  const fill = (text: string) => text.repeat(Math.ceil(MIB / text.length));
  const long = "a".repeat(70);
  const quotes = head(';name="a'.repeat(2000));
  const everything = { partsMax: MIB };

  test.each<[string, string, Form]>([
    ["empty parts", fill(`--XX\r\n${head("")}\r\n\r\n`), everything],
    ["parts without heads", fill("--XX\r\n\r\n\r\n"), everything],
    ["parts with names without end", fill(`--XX\r\n${quotes}\r\n\r\n`), everything],
    ["one head, in single bytes", `--XX\r\nX: ${fill("y")}`, { step: 1 }],
    ["bytes that come in drops", `--XX\r\n${head("")}\r\n${fill("\r\n--X")}`, { step: 8 }],
    [
      "what is nearly a boundary",
      `--${long}\r\n${head("")}\r\n${fill(`\r\n--${long.slice(1)}`)}`,
      { type: `multipart/form-data; boundary=${long}` },
    ],
    ["line ends", `--XX\r\n${head("")}\r\n${fill("\r\n")}`, {}],
    ["blanks", `--XX${fill(" ")}`, {}],
  ])("%s holds nobody up", async (_what, body, form) => {
    const startedAtMs = threadMs();

    const pauseMs = await longestPauseMs(() => read(body, form).catch(() => {}));

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
    // Six seconds where each part costs what the whole body costs.
    expect(threadMs() - startedAtMs).toBeLessThan(5_000);
  });
});
