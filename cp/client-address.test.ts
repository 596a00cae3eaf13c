import { expect, test } from "bun:test";
import { clientAddress, TrustedProxies } from "./client-address.ts";

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

test("of a way through several proxies counts who stands before the first of ours", () => {
  const proxies = new TrustedProxies(["10.0.0.0/8", "2001:db8::/32"]);
  const clientOf = (forwardedFor: string) => proxies.clientOf(forwardedFor);

  expect(clientOf("198.51.100.1, 203.0.113.7, 10.0.0.3")).toBe("203.0.113.7");
  expect(clientOf("203.0.113.7,2001:db8::5 , 10.0.0.3")).toBe("203.0.113.7");
  expect(clientOf("10.0.0.1, 127.0.0.1")).toBe(null);
  expect(clientOf(" , ")).toBe(null);
});

test.each(["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0", "::/129", "localhost"])(
  "%p is no network of proxies",
  (network) => {
    expect(() => new TrustedProxies([network])).toThrow("neither an address nor a network");
  },
);

test("without a server the address is unknown", () => {
  expect(clientAddress(new Request("http://localhost/"), null)).toBe("unknown");
});
