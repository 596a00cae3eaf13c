// Where neither a guest nor what a member of a team names may lead: IANA's registries of special-purpose addresses,
// without what they say is globally reachable, and what they do not list. Guests have no IPv6 (agent/network/rules.ts).

interface SpecialRange {
  readonly range: string;
  /** As the registry has it: https://www.iana.org/assignments/iana-ipv4-special-registry (RFC 6890). */
  readonly name: string;
}

/**
 * An entry that lies within another one is denied with it, so the anycast addresses of 192.0.0.0/24 (PCP, TURN), too.
 * Globally reachable, hence not here: 192.31.196.0/24 and 192.175.48.0/24 (AS112, name servers that answer for
 * private addresses), 192.52.193.0/24 (AMT).
 */
const SPECIAL_PURPOSE: readonly SpecialRange[] = [
  { range: "0.0.0.0/8", name: "This network" },
  { range: "10.0.0.0/8", name: "Private-Use" },
  { range: "100.64.0.0/10", name: "Shared Address Space" },
  { range: "127.0.0.0/8", name: "Loopback" },
  { range: "169.254.0.0/16", name: "Link Local" },
  { range: "172.16.0.0/12", name: "Private-Use" },
  { range: "192.0.0.0/24", name: "IETF Protocol Assignments" },
  { range: "192.0.2.0/24", name: "Documentation (TEST-NET-1)" },
  { range: "192.88.99.0/24", name: "Deprecated (6to4 Relay Anycast)" },
  { range: "192.168.0.0/16", name: "Private-Use" },
  { range: "198.18.0.0/15", name: "Benchmarking" },
  { range: "198.51.100.0/24", name: "Documentation (TEST-NET-2)" },
  { range: "203.0.113.0/24", name: "Documentation (TEST-NET-3)" },
  // With "Limited Broadcast", 255.255.255.255.
  { range: "240.0.0.0/4", name: "Reserved" },
];

const OTHERS: readonly SpecialRange[] = [
  // A virtual machine of Azure reaches its host by it, with its DHCP, DNS and agent.
  { range: "168.63.129.16/32", name: "Azure's host" },
  { range: "224.0.0.0/4", name: "Multicast" },
];

export const DENIED_RANGES: readonly string[] = [...SPECIAL_PURPOSE, ...OTHERS].map(
  ({ range }) => range,
);

/** All that is no global unicast; of the rest, what leads to an address of another kind within, or nowhere. */
export const DENIED_RANGES_V6: readonly string[] = [
  { range: "::/3", name: "Loopback, unspecified, IPv4-mapped, NAT64 (64:ff9b::/96)" },
  { range: "4000::/2", name: "Not allocated; segment routing" },
  { range: "8000::/1", name: "Unique-local, link-local, multicast; the rest is not allocated" },
  { range: "2001::/23", name: "IETF Protocol Assignments, with Teredo" },
  { range: "2001:db8::/32", name: "Documentation" },
  { range: "2002::/16", name: "6to4" },
  { range: "3fff::/20", name: "Documentation" },
].map(({ range }) => range);
