// Signed URLs against the known vector and each way to be refused.
import { describe, expect, test } from "bun:test";
import { Settings } from "../settings.ts";
import { authorizeFiles, signatureOf } from "./signature.ts";

const TOKEN = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";
const PARTS = { path: "hello.txt", operation: "read", user: "user", token: TOKEN } as const;

test("the signature of the known vector", () => {
  const signature = signatureOf({ ...PARTS, expiration: null });

  expect(signature).toBe("v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E");
});

describe("a request", () => {
  const settings = new Settings();
  settings.token = TOKEN;
  const attempt = (query: Record<string, string>, headers: Record<string, string> = {}) => {
    const options = { headers: new Headers(headers), query: new URLSearchParams(query) };
    return () => authorizeFiles({ ...options, operation: "read", settings });
  };
  const signed = { path: "hello.txt", username: "user" };
  const sign = (expiration: string | null) => signatureOf({ ...PARTS, expiration });

  test("passes with the token, or a signature that has not expired", () => {
    const later = String(Math.floor(Date.now() / 1000) + 60);

    expect(attempt({}, { "x-access-token": TOKEN })).not.toThrow();
    expect(attempt({ ...signed, signature: sign(null) })).not.toThrow();
    expect(
      attempt({ ...signed, signature: sign(later), signature_expiration: later }),
    ).not.toThrow();
  });

  test("is refused in the words of the contract", () => {
    expect(attempt({}, { "x-access-token": "other" })).toThrow(
      "access token present in header but does not match",
    );
    expect(attempt(signed)).toThrow("missing signature query parameter");
    expect(attempt({ ...signed, signature: sign("1") })).toThrow("invalid signature");
    expect(attempt({ ...signed, path: "else", signature: sign(null) })).toThrow(
      "invalid signature",
    );
    for (const past of ["0", "1700000000", String(Math.floor(Date.now() / 1000) - 1)]) {
      expect(attempt({ ...signed, signature: sign(past), signature_expiration: past })).toThrow(
        "signature is already expired",
      );
    }
  });

  // What is no number is later than no time.
  test("whose signature expires at no time is refused, naming the field", () => {
    for (const never of ["abc", "", "NaN", "Infinity", "1e99", "-1", "0x7fffffff", " 1", "1.5"]) {
      const signature = sign(never);
      expect(attempt({ ...signed, signature, signature_expiration: never })).toThrow(
        "signature_expiration: must be seconds since 1970",
      );
    }
  });

  test("passes as it is while no token is set", () => {
    const query = new URLSearchParams();
    const open = { headers: new Headers(), query, settings: new Settings() };

    expect(() => authorizeFiles({ ...open, operation: "read" })).not.toThrow();
  });
});
