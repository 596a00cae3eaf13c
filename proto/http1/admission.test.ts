import { expect, test } from "bun:test";
import { Admission, networkOf } from "./admission.ts";

test.each([
  ["192.0.2.1", "192.0.2.1"],
  ["::ffff:192.0.2.1", "192.0.2.1"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
  ["2001:DB8:1:2::1", "2001:db8:1:2"],
  ["2001:db8::1", "2001:db8:0:0"],
  ["2001:0db8::", "2001:db8:0:0"],
  ["::1", "0:0:0:0"],
  ["fe80::1%eth0", "fe80:0:0:0"],
  ["unknown", "unknown"],
])("%s counts as %s", (address, network) => {
  expect(networkOf(address)).toBe(network);
});

test("an address has its share, all have theirs, and both are given back once", () => {
  const admission = new Admission({ connectionsMax: 3, connectionsPerAddressMax: 2 });
  const first = admission.admit("2001:db8::1");
  const admitted = [admission.admit("2001:db8::2"), admission.admit("2001:db8::3")];
  const others = [admission.admit("192.0.2.1"), admission.admit("192.0.2.2")];

  expect(admitted[1]).toBe("too-many");
  expect(others[1]).toBe("full");
  if (typeof first === "string") throw new Error("it was not admitted");
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  expect(admission.count).toBe(2);
  expect(admission.admit("2001:db8::3")).not.toBeString();
  expect(admission.admit(null)).toBe("full");
});

test("whom nobody counts has the share of all", () => {
  const admission = new Admission({ connectionsMax: 3, connectionsPerAddressMax: 1 });

  expect([1, 2, 3].map(() => typeof admission.admit(null))).toEqual(Array(3).fill("object"));
});
