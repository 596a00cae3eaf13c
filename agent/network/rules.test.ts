// The text is checked here, its effect on packets in network-policy.host.test.ts.

import { expect, test } from "bun:test";
import { DENIED_RANGES } from "../../proto/denied-ranges.ts";
import { hostRules, removeHostRules, slotRules } from "./rules.ts";
import { describeLinks, describeSlot } from "./slot.ts";

function chain(rules: string, name: string): string[] {
  const body = new RegExp(`chain ${name} \\{([^}]*)\\}`).exec(rules)?.[1] ?? "";
  return body
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

const slotOne = slotRules(describeSlot("ab01", 1), describeLinks("ab01", 1));

test("an agent's table replaces the one that is there within one transaction", () => {
  expect(hostRules("ab01").split("\n").slice(0, 3)).toEqual([
    "add table inet wrenn_ab01",
    "delete table inet wrenn_ab01",
    "table inet wrenn_ab01 {",
  ]);
  expect(removeHostRules("ab01")).toBe("add table inet wrenn_ab01\ndelete table inet wrenn_ab01");
});

// A rule without an interface would decide about the host's own traffic.
test("each rule of a hooked chain on the host names the agent's own devices", () => {
  const hooked = ["prerouting", "input", "forward", "postrouting"];
  const rules = hooked.flatMap((name) => chain(hostRules("ab01"), name).slice(1));

  expect(rules.length).toBeGreaterThan(5);
  expect(rules.filter((rule) => !/^[io]ifname "wv-ab01-\*" /.test(rule))).toEqual([]);
});

test("chains on the host let pass what is not the agent's", () => {
  const policies = hostRules("ab01").match(/policy \w+/g);

  expect(new Set(policies)).toEqual(new Set(["policy accept"]));
});

test("what enters a guest is answers only, and other agents' devices count as capsules", () => {
  expect(chain(hostRules("ab01"), "to_guest")).toEqual([
    "ct state established,related accept",
    "drop",
  ]);
  expect(chain(hostRules("ab01"), "from_guest")).toContain('oifname "wv-*" drop');
});

test("a slot's namespace forwards and receives nothing by default", () => {
  expect(chain(slotOne, "input")).toEqual(["type filter hook input priority filter; policy drop;"]);
  expect(chain(slotOne, "forward")[0]).toEndWith("policy drop;");
});

test("the host's connections are translated to the guest and its gateway", () => {
  expect(chain(slotOne, "prerouting")).toContain(
    'iifname "eth0" ip daddr 10.11.0.1 dnat ip to 169.254.0.21',
  );
  expect(chain(slotOne, "postrouting")).toContain('oifname "tap0" snat ip to 169.254.0.22');
  expect(chain(slotOne, "to_guest")).toContain("ip saddr 10.12.0.2 ct status dnat accept");
});

test("a guest is refused its denied ranges and a forged source before anything is accepted", () => {
  expect(chain(slotOne, "from_guest")).toEqual([
    "ip saddr != 169.254.0.21 drop",
    "ct state new tcp flags & (syn | ack | rst) != syn jump refuse",
    "ct state established,related ct direction reply accept",
    "ip daddr @denied drop",
    "ct state new limit rate over 200/second burst 4096 packets drop",
    "ct state new ct count over 4096 drop",
    "ip daddr 0.0.0.0/0 accept",
  ]);
  for (const rules of [slotOne, hostRules("ab01")]) {
    const elements = /elements = \{ (.*) \}/.exec(rules)?.[1];
    expect(elements?.split(", ")).toEqual([...DENIED_RANGES]);
  }
});
