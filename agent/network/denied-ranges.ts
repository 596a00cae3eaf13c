// Where no guest may go: IANA's registry of special-purpose IPv4 addresses, without what it says is globally
// reachable, and what it does not list. IPv6 needs no table: none of it passes (rules.ts).

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
