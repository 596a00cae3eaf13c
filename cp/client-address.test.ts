import { expect, test } from "bun:test";
import { clientAddress } from "./client-address.ts";

function from(peer: string | null, forwardedFor?: string): string {
  const headers = forwardedFor === undefined ? {} : { "x-forwarded-for": forwardedFor };
  const request = new Request("http://localhost/", { headers });
  const address = peer === null ? null : ({ address: peer, family: "IPv4", port: 1 } as const);
  return clientAddress(request, { requestIP: () => address });
}

test("a client from elsewhere can't claim another address", () => {
  expect(from("203.0.113.7", "198.51.100.1")).toBe("203.0.113.7");
});

test.each(["127.0.0.1", "::1", "::ffff:127.0.0.1"])(
  "a proxy on this machine (%s) is believed, its own word only",
  (peer) => {
    expect(from(peer, "198.51.100.1, 203.0.113.7")).toBe("203.0.113.7");
    expect(from(peer)).toBe(peer);
    expect(from(peer, "")).toBe(peer);
  },
);

test("without a server the address is unknown", () => {
  expect(clientAddress(new Request("http://localhost/"), null)).toBe("unknown");
});
