import { describe, expect, test } from "bun:test";
import { headerOf, parseRequestHead } from "../../proto/http1/head.ts";
import { accessTo, type PortAccess, withoutToken } from "./port-access.ts";

const TOKEN = "a".repeat(64);
const HOST = "8000-cl-1.wrenn.test";
const PORT = { port: 8000, origin: `https://${HOST}`, trafficToken: TOKEN };
const PLAIN = { ...PORT, origin: `http://${HOST}:8080` };

function ask(path: string, lines: readonly string[] = [], method = "GET") {
  const text = [`${method} ${path} HTTP/1.1`, `Host: ${HOST}`, ...lines, "", ""].join("\r\n");
  return parseRequestHead(Buffer.from(text));
}

/** What the answer sets, and where it leads. */
function welcome(access: PortAccess): { cookie: string; location: string } {
  if (typeof access === "string") throw new Error(`no answer but ${access}`);
  const line = (key: string) => headerOf(access.headers, key) ?? "";
  expect([access.status, line("cache-control")]).toEqual([302, "no-store"]);
  return { cookie: line("set-cookie"), location: line("location") };
}

const cookieFor = (port: typeof PORT) =>
  welcome(accessTo(ask(`/?wrenn_traffic_token=${TOKEN}`), port)).cookie.split(";")[0] ?? "";

test.each(["e2b-traffic-access-token", "x-wrenn-traffic-token"])("%s opens the port", (name) => {
  expect(accessTo(ask("/", [`${name}: ${TOKEN}`]), PORT)).toBe("granted");
  for (const wrong of [`${TOKEN}x`, TOKEN.slice(0, -1), ""]) {
    expect(accessTo(ask("/", [`${name}: ${wrong}`]), PORT)).toBe("invalid");
  }
  expect(accessTo(ask("/"), PORT)).toBe("missing");
});

describe("a token in the query", () => {
  test("becomes a cookie of that host alone, and the address loses it", () => {
    const { cookie, location } = welcome(
      accessTo(ask(`/lab/tree?a=1&wrenn_traffic_token=${TOKEN}&b=2`), PORT),
    );
    const plain = welcome(accessTo(ask(`/?wrenn_traffic_token=${TOKEN}`), PLAIN));

    expect(cookie).toMatch(
      /^__Host-wrenn_port=[\w-]{43}; Path=\/; HttpOnly; Secure; SameSite=None; Partitioned$/,
    );
    expect(location).toBe("/lab/tree?a=1&b=2");
    expect(plain.cookie).toMatch(/^wrenn_port=[\w-]{43}; Path=\/; HttpOnly; SameSite=Lax$/);
    expect(plain.location).toBe("/");
    expect(cookie + plain.cookie).not.toContain(TOKEN);
  });

  test.each(["//evil.example/x", "/\\evil.example/x"])("at %s leads nowhere else", (path) => {
    const { location } = welcome(accessTo(ask(`${path}?wrenn_traffic_token=${TOKEN}`), PORT));

    expect(new URL(location, PORT.origin).origin).toBe(PORT.origin);
  });

  test("that is wrong is told, and counts for pages only", () => {
    const right = `/?wrenn_traffic_token=${TOKEN}`;
    const upgrade = ["Connection: Upgrade", "Upgrade: websocket"];

    expect(accessTo(ask("/?wrenn_traffic_token=x"), PORT)).toBe("invalid");
    expect(accessTo(ask(right, [], "POST"), PORT)).toBe("missing");
    expect(accessTo(ask(right, upgrade), PORT)).toBe("missing");
  });

  test("is taken out wherever it stands", () => {
    expect(
      [
        "/a?wrenn_traffic_token=1",
        "/a?x&wrenn_traffic_token=1&y=2",
        "/a?x=wrenn_traffic_token",
        "/a",
      ].map(withoutToken),
    ).toEqual(["/a", "/a?x&y=2", "/a?x=wrenn_traffic_token", "/a"]);
  });
});

describe("a cookie", () => {
  const own = ["Sec-Fetch-Site: same-origin"];
  const evil = "Origin: https://8000-cl-2.wrenn.test";
  const upgrade = ["Connection: Upgrade", "Upgrade: websocket"];

  test("opens the port to its own pages, and to whoever opens one", () => {
    const cookie = `Cookie: theme=dark; ${cookieFor(PORT)}`;
    const opened = [
      ask("/", [cookie]),
      ask("/", [cookie, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"]),
      ask("/api", [cookie, ...own, "Sec-Fetch-Mode: cors"]),
      ask("/form", [cookie, ...own, `Origin: ${PORT.origin}`], "POST"),
      ask("/socket", [cookie, ...upgrade, `Origin: ${PORT.origin}`]),
    ];

    expect(opened.map((request) => accessTo(request, PORT))).toEqual(Array(5).fill("granted"));
  });

  // Capsules are one site to a browser, so it sends the cookie with what the page of another one asks.
  test("opens nothing to the pages of others", () => {
    const cookie = `Cookie: ${cookieFor(PORT)}`;
    const refused = [
      ask("/socket", [cookie, ...upgrade, evil]),
      ask("/form", [cookie, evil, "Sec-Fetch-Mode: navigate"], "POST"),
      ask("/form", [cookie, "Origin: null", "Sec-Fetch-Mode: navigate"], "POST"),
      // A client that hides where it comes from says nothing of its page, but that it is another one.
      ask("/form", [cookie, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"], "POST"),
      ask("/form", [cookie, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate"], "PUT"),
      ask("/socket", [cookie, ...upgrade, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate"]),
      ask("/api", [cookie, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"]),
      ask("/api", [cookie, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", evil]),
    ];

    expect(refused.map((request) => accessTo(request, PORT))).toEqual(Array(8).fill("missing"));
  });

  test("is of one port, and over TLS of that host for sure", () => {
    const cookie = cookieFor(PORT);
    const other = { ...PORT, port: 8001 };
    const unbound = cookie.replace("__Host-", "");

    expect(accessTo(ask("/", [`Cookie: ${cookie}`]), other)).toBe("missing");
    expect(accessTo(ask("/", [`Cookie: ${unbound}`]), PORT)).toBe("missing");
    expect(accessTo(ask("/", [`Cookie: ${cookieFor(PLAIN)}`]), PLAIN)).toBe("granted");
  });
});

test("a preflight passes without a token, and nothing else does that only looks like one", () => {
  const asking = ["Origin: https://app.example", "Access-Control-Request-Method: POST"];
  const length = "Content-Length: 1";

  expect(accessTo(ask("/api", asking, "OPTIONS"), PORT)).toBe("granted");
  expect(accessTo(ask("/api", asking.slice(1), "OPTIONS"), PORT)).toBe("missing");
  expect(accessTo(ask("/api", asking.slice(0, 1), "OPTIONS"), PORT)).toBe("missing");
  expect(accessTo(ask("/api", [...asking, length], "OPTIONS"), PORT)).toBe("missing");
  expect(accessTo(ask("/api", asking, "POST"), PORT)).toBe("missing");
});
