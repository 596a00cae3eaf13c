import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import { assertOwnOrigin } from "./own-origin.ts";

const ORIGINS = new Set(["https://app.example.com", "https://admin.example.com:8443"]);
const SESSION = "a=b; wrenn_sid=s3cret";

/** What becomes of an upgrade with these headers. */
function upgradeWith(headers: Record<string, string>): string {
  return outcomeOf(
    new Request("http://localhost/", { headers: { upgrade: "websocket", ...headers } }),
  );
}

function outcomeOf(request: Request): string {
  try {
    assertOwnOrigin(request, ORIGINS);
    return "ok";
  } catch (error) {
    if (error instanceof AppError) return error.code;
    throw error;
  }
}

test.each(["https://app.example.com", "https://admin.example.com:8443"])(
  "an upgrade with our cookie is taken from %s",
  (origin) => {
    expect(upgradeWith({ cookie: SESSION, origin })).toBe("ok");
  },
);

test.each([
  "http://app.example.com",
  "https://app.example.com:8443",
  "https://app.example.com.evil.example",
  "https://8080-cl-x.app.example.com",
  "null",
  "",
])("an upgrade with our cookie is refused from %p", (origin) => {
  expect(upgradeWith({ cookie: SESSION, origin })).toBe("forbidden");
});

test.each(["wrenn_sid=x", "__Host-wrenn_sid=x", "__Secure-WRENN_CSRF=x", "a=b,wrenn_csrf="])(
  "an upgrade with %s and no Origin is refused",
  (cookie) => {
    expect(upgradeWith({ cookie })).toBe("forbidden");
  },
);

test("what shows no cookie of ours may come from anywhere", () => {
  const foreign = { origin: "https://evil.example", "sec-fetch-site": "cross-site" };
  expect(requestWith({ ...foreign, cookie: "theirs=1" }, "POST")).toBe("ok");
  expect(upgradeWith({})).toBe("ok");
  expect(upgradeWith({ origin: "https://evil.example" })).toBe("ok");
  expect(upgradeWith({ cookie: "wrenn_sids=1; x=wrenn_sid", origin: "null" })).toBe("ok");
});

/** What becomes of a request that changes no protocol, with our cookie and these headers. */
function requestWith(headers: Record<string, string>, method = "GET"): string {
  return outcomeOf(
    new Request("http://localhost/", { method, headers: { cookie: SESSION, ...headers } }),
  );
}

test.each([
  ["another page", { origin: "https://evil.example" }],
  ["a page of a capsule", { origin: "https://8080-cl-x.app.example.com" }],
  ["a frame that is nobody's", { origin: "null" }],
  ["a picture in another page", { "sec-fetch-site": "cross-site" }],
  ["a picture in a page of a capsule", { "sec-fetch-site": "same-site" }],
])("what %s asks with our cookie is refused, whatever the method", (_, headers) => {
  for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]) {
    expect([method, requestWith(headers, method)]).toEqual([method, "forbidden"]);
  }
});

test("our pages and people may ask with our cookie", () => {
  const origin = "https://app.example.com";
  const told = [
    requestWith({ origin, "sec-fetch-site": "same-site" }, "POST"),
    requestWith({ origin, "sec-fetch-site": "cross-site" }),
    requestWith({ "sec-fetch-site": "same-origin" }),
    requestWith({ "sec-fetch-site": "none" }),
    requestWith({}, "HEAD"),
  ];

  expect(told).toEqual(Array(5).fill("ok"));
});

// Browsers have always sent an Origin with those.
test("a change with our cookie and no Origin is refused", () => {
  expect(requestWith({}, "POST")).toBe("forbidden");
  expect(requestWith({ "sec-fetch-site": "same-origin" }, "DELETE")).toBe("forbidden");
});

test("a key or a token needs no page of ours; what browsers remember is neither", () => {
  const origin = "https://evil.example";
  const shown = (headers: Record<string, string>) => [
    requestWith({ origin, ...headers }, "POST"),
    upgradeWith({ cookie: SESSION, origin, ...headers }),
  ];

  expect(shown({ "x-api-key": "wrn_0" })).toEqual(["ok", "ok"]);
  expect(shown({ "x-host-token": "a.b.c" })).toEqual(["ok", "ok"]);
  expect(shown({ authorization: "Bearer a.b.c" })).toEqual(["ok", "ok"]);
  expect(shown({ authorization: "Basic YTpi" })).toEqual(["forbidden", "forbidden"]);
  expect(shown({ authorization: "Bearer " })).toEqual(["forbidden", "forbidden"]);
  expect(shown({ "x-api-key": "" })).toEqual(["forbidden", "forbidden"]);
});

// A session that was read past the guards would be one that any page could open WebSockets with.
test("cookies of requests are read here, where the proxy takes ours out, and for private ports", async () => {
  const readers: string[] = [];
  for await (const path of new Bun.Glob("**/*.ts").scan(`${import.meta.dir}/..`)) {
    const text = await Bun.file(`${import.meta.dir}/../${path}`).text();
    if (!path.endsWith(".test.ts") && /["'`]cookie["'`]/i.test(text)) readers.push(path);
  }

  expect(readers.sort()).toEqual([
    "auth/own-origin.ts",
    "auth/session-cookies.ts",
    "front/http2-wire.ts",
    // Describes them.
    "openapi/document.ts",
    "proxy/credentials.ts",
    "proxy/port-access.ts",
  ]);
});
