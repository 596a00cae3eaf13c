import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import { assertOwnOrigin } from "./own-origin.ts";

const ORIGINS = new Set(["https://app.example.com", "https://admin.example.com:8443"]);
const SESSION = "a=b; wrenn_sid=s3cret";

/** What becomes of an upgrade with these headers. */
function upgradeWith(headers: Record<string, string>): string {
  const request = new Request("http://localhost/", {
    headers: { upgrade: "websocket", ...headers },
  });
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

test("an upgrade without a cookie of ours may come from anywhere", () => {
  expect(upgradeWith({})).toBe("ok");
  expect(upgradeWith({ origin: "https://evil.example" })).toBe("ok");
  expect(upgradeWith({ cookie: "wrenn_sids=1; x=wrenn_sid", origin: "null" })).toBe("ok");
});

test("a request that is no upgrade is not looked at: browsers keep others from reading its answer", () => {
  const headers = { cookie: SESSION, origin: "https://evil.example" };

  expect(() =>
    assertOwnOrigin(new Request("http://localhost/", { headers }), ORIGINS),
  ).not.toThrow();
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
    "front/http2-wire.ts",
    "proxy/credentials.ts",
    "proxy/port-access.ts",
  ]);
});
