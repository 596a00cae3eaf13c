// The firewall, as text for nft: one table in the agent's own namespace, one in each slot's. Both
// deny by default and both keep a guest from other capsules and private ranges; the host's public
// addresses are known to its own table alone, which goes by where a packet comes from, not by a
// list of addresses.

import { DENIED_RANGES } from "../../proto/denied-ranges.ts";
import type { SlotLinks } from "./slot.ts";
import {
  GATEWAY_ADDRESS,
  GUEST_ADDRESS,
  type NetworkSlot,
  TAP,
  UPLINK,
  vethPrefix,
} from "./slot.ts";

/**
 * Connections that a guest may have open at once, and new ones per second after as many in a burst.
 * The host tracks them all in one table (262,144 entries where there is enough memory), and those
 * that ended stay for two minutes: one guest could fill it for all others and for the host.
 */
export const GUEST_CONNECTIONS_MAX = 4096;
const GUEST_CONNECTIONS_PER_S_MAX = 200;

const NEW_CONNECTIONS = [
  `${GUEST_CONNECTIONS_PER_S_MAX}/second`,
  `burst ${GUEST_CONNECTIONS_MAX} packets`,
].join(" ");

/** In a slot's namespace. */
export const SLOT_TABLE = "inet wrenn";
/** The veth of every agent on the machine, this one's or another's. */
const ANY_VETH = "wv-*";

const DENIED_SET = `set denied {
    type ipv4_addr; flags interval;
    elements = { ${DENIED_RANGES.join(", ")} }
  }`;

/** In the agent's own namespace. */
export function hostTable(tag: string): string {
  return `inet wrenn_${tag}`;
}

/**
 * Makes the agent's table, in place of one that is there, without a moment in between. Rules go by
 * the names of its veths, so slots come and go without touching it. What does not come from or go
 * to one of them passes untouched.
 */
export function hostRules(tag: string): string {
  const veths = `"${vethPrefix(tag)}*"`;
  return `${removeHostRules(tag)}
table ${hostTable(tag)} {
  ${DENIED_SET}
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname ${veths} fib saddr . iif oif missing drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname ${veths} ct state established,related ct direction reply accept
    iifname ${veths} drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname ${veths} jump from_guest
    oifname ${veths} jump to_guest
  }
  chain from_guest {
    meta nfproto != ipv4 drop
    oifname "${ANY_VETH}" drop
    ip daddr @denied drop
    ct state invalid drop
  }
  chain to_guest {
    ct state established,related accept
    drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    iifname ${veths} oifname != "${ANY_VETH}" masquerade
  }
}
`;
}

/** Removes the agent's table; does nothing if there is none. */
export function removeHostRules(tag: string): string {
  return `add table ${hostTable(tag)}\ndelete table ${hostTable(tag)}`;
}

/**
 * The table of a slot's namespace. The host's connections to hostIp reach the guest as if from its
 * gateway; the guest's own leave as the namespace's address. Nothing else passes, and nothing
 * reaches the namespace itself. A guest that was restored may think that it has connections which
 * began in another slot: they are reset, rather than taken up in the middle under another port.
 */
export function slotRules(slot: NetworkSlot, links: SlotLinks): string {
  return `table ${SLOT_TABLE} {
  ${DENIED_SET}
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "${UPLINK}" ip daddr ${slot.hostIp} dnat ip to ${GUEST_ADDRESS}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${TAP}" snat ip to ${GATEWAY_ADDRESS}
    oifname "${UPLINK}" snat ip to ${links.uplinkAddress}
  }
  chain input {
    type filter hook input priority filter; policy drop;
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    iifname "${TAP}" oifname "${UPLINK}" jump from_guest
    iifname "${UPLINK}" oifname "${TAP}" jump to_guest
  }
  chain from_guest {
    ip saddr != ${GUEST_ADDRESS} drop
    ct state new tcp flags & (syn | ack | rst) != syn jump refuse
    ct state established,related ct direction reply accept
    ip daddr @denied drop
    ct state new limit rate over ${NEW_CONNECTIONS} drop
    ct state new ct count over ${GUEST_CONNECTIONS_MAX} drop
    ip daddr 0.0.0.0/0 accept
  }
  chain refuse {
    tcp flags rst drop
    reject with tcp reset
  }
  chain to_guest {
    ct state established,related ct direction reply accept
    ip saddr ${links.vethAddress} ct status dnat accept
  }
}
`;
}
