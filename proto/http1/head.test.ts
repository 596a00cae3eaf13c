import { expect, test } from "bun:test";
import { ByteWindow } from "./byte-window.ts";
import { HeadFinder, MalformedHttp, parseRequestHead, parseResponseHead } from "./head.ts";

function request(...lines: string[]) {
  return parseRequestHead(Buffer.from([...lines, "", ""].join("\r\n"), "latin1"));
}

function response(method: string, ...lines: string[]) {
  return parseResponseHead(Buffer.from([...lines, "", ""].join("\r\n"), "latin1"), method);
}

test("a request's path and query stay as they came", () => {
  const target = "/a//b/../%2e%2E/c;d?x=%20&y=[1]&z=é";

  expect(request(`GET ${target} HTTP/1.1`, "Host: H.example:80")).toMatchObject({
    method: "GET",
    target,
    authority: "h.example:80",
    bodyLength: 0,
    isKeptAlive: true,
    upgrade: null,
  });
});

test("an absolute target names the host, and its path is what counts", () => {
  const head = request("GET http://b.example?q HTTP/1.1", "Host: a.example");

  expect([head.authority, head.target]).toEqual(["b.example", "/?q"]);
});

// What two programs could read differently is how requests are smuggled (RFC 9112, 11.2).
test.each([
  ["a space in the target", ["GET /a b HTTP/1.1", "Host: x"]],
  ["another version", ["GET / HTTP/2.0", "Host: x"]],
  ["no host", ["GET / HTTP/1.1"]],
  ["two hosts", ["GET / HTTP/1.1", "Host: x", "Host: y"]],
  ["a host with a path", ["GET / HTTP/1.1", "Host: x/y"]],
  ["a space before the colon", ["GET / HTTP/1.1", "Host: x", "Content-Length : 5"]],
  ["a folded line", ["GET / HTTP/1.1", "Host: x", "A: b", " c"]],
  ["a bare line feed", ["GET / HTTP/1.1", "Host: x", "A: b\nContent-Length: 5"]],
  ["a bare carriage return", ["GET / HTTP/1.1", "Host: x", "A: b\rc"]],
  ["a zero byte", ["GET / HTTP/1.1", "Host: x", "A: b\u0000c"]],
  ["two lengths", ["POST / HTTP/1.1", "Host: x", "Content-Length: 1", "Content-Length: 1"]],
  ["a list of lengths", ["POST / HTTP/1.1", "Host: x", "Content-Length: 1, 1"]],
  ["a signed length", ["POST / HTTP/1.1", "Host: x", "Content-Length: +1"]],
  [
    "length and chunks",
    ["POST / HTTP/1.1", "Host: x", "Content-Length: 1", "Transfer-Encoding: chunked"],
  ],
  ["another coding", ["POST / HTTP/1.1", "Host: x", "Transfer-Encoding: gzip, chunked"]],
  ["a coding that is none", ["POST / HTTP/1.1", "Host: x", "Transfer-Encoding: xchunked"]],
  ["chunks in HTTP/1.0", ["POST / HTTP/1.0", "Host: x", "Transfer-Encoding: chunked"]],
  ["a length behind a vertical tab", ["POST / HTTP/1.1", "Host: x", "Content-Length: \v5"]],
  ["a length before a no-break space", ["POST / HTTP/1.1", "Host: x", "Content-Length: 5\xa0"]],
  ["a coding behind a form feed", ["POST / HTTP/1.1", "Host: x", "Transfer-Encoding: \fchunked"]],
  ["too many headers", ["GET / HTTP/1.1", "Host: x", ...Array(256).fill("A: b")]],
])("a request with %s is refused", (_, lines) => {
  expect(() => request(...lines)).toThrow(MalformedHttp);
});

test("a head that never ends is refused once it is too long", () => {
  const bytes = new ByteWindow();
  const finder = new HeadFinder();
  bytes.add(Buffer.from("GET / HTTP/1.1\r\nA: "));

  expect(finder.take(bytes)).toBe(null);
  bytes.add(Buffer.alloc(70_000, "a"));
  expect(() => finder.take(bytes)).toThrow(MalformedHttp);
});

test("a head has bounds, also one that comes whole", () => {
  const take = (length: number) => {
    const bytes = new ByteWindow();
    bytes.add(Buffer.from(`${"a".repeat(length)}\r\n\r\n`));
    return new HeadFinder().take(bytes)?.length;
  };
  const headers = Array(255).fill("A: b");

  expect(take(65_536)).toBe(65_536);
  expect(() => take(65_537)).toThrow(MalformedHttp);
  expect(request("GET / HTTP/1.1", "Host: x", ...headers).headers).toHaveLength(256);
});

test("a head is found however it is cut, and what follows stays", () => {
  const head = "GET / HTTP/1.1\r\nA: \r\r\n\r\n";
  for (let cut = 1; cut < head.length; cut++) {
    const bytes = new ByteWindow();
    const finder = new HeadFinder();
    bytes.add(Buffer.from(head.slice(0, cut)));
    const early = finder.take(bytes);
    bytes.add(Buffer.from(`${head.slice(cut)}${head}X`));

    const text = head.slice(0, -4);
    expect([early, finder.take(bytes), finder.take(bytes)]).toEqual([null, text, text]);
    expect(bytes.take(9).toString()).toBe("X");
  }
});

test("a Connection header has few options", () => {
  const options = (count: number) => `Connection: ${Array(count).fill("a").join(",")}`;

  expect(() => request("GET / HTTP/1.1", "Host: x", options(64))).not.toThrow();
  expect(() => request("GET / HTTP/1.1", "Host: x", options(65))).toThrow(MalformedHttp);
});

test("a change of protocol is asked for by both headers", () => {
  const upgrade = (...lines: string[]) =>
    request("GET / HTTP/1.1", "Host: x", "Upgrade: websocket", ...lines).upgrade;

  expect(upgrade("Connection: keep-alive, Upgrade")).toBe("websocket");
  expect(upgrade()).toBeNull();
  expect(upgrade("Connection: Upgrade", "Content-Length: 3")).toBeNull();
});

test.each([
  ["GET", ["HTTP/1.1 200 OK", "Content-Length: 5"], 5, true],
  ["GET", ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"], "chunked", true],
  ["GET", ["HTTP/1.1 200 OK", "Content-Length: 9", "Transfer-Encoding: chunked"], "chunked", true],
  ["GET", ["HTTP/1.1 200 OK"], "until-close", false],
  ["GET", ["HTTP/1.0 200 OK", "Content-Length: 5"], 5, false],
  ["GET", ["HTTP/1.1 200", "Content-Length: 5", "Connection: close"], 5, false],
  ["HEAD", ["HTTP/1.1 200 OK", "Content-Length: 5"], 0, true],
  ["GET", ["HTTP/1.1 204 No Content", "Content-Length: 5"], 0, true],
  ["GET", ["HTTP/1.1 304 Not Modified", "Content-Length: 5"], 0, true],
] as const)("the answer to %s of %p has a body of %p", (method, lines, bodyLength, isKeptAlive) => {
  expect(response(method, ...lines)).toMatchObject({ bodyLength, isKeptAlive });
});

test.each([
  [["SSH-2.0-OpenSSH"]],
  [["HTTP/1.1 20 OK"]],
  [["HTTP/1.1 200 OK", "Content-Length: -1"]],
  [["HTTP/1.1 200 OK", "Transfer-Encoding: gzip"]],
  [["HTTP/1.1 200 OK", "no colon"]],
])("%p is no response", (lines) => {
  expect(() => response("GET", ...lines)).toThrow(MalformedHttp);
});
