// Where the agent of a host listens, and under which name.

import { and, eq, ne } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { hosts } from "../db/tables.ts";
import type { AgentOfHost } from "./agent-clients.ts";

export type HostStatus = (typeof hosts.$inferSelect)["status"];

/** What is needed to call the agent of a host. */
export const AGENT_COLUMNS = { id: hosts.id, address: hosts.address, certName: hosts.certName };

/** Of hosts whose agents can be called. */
export function hasAgent() {
  return and(ne(hosts.address, ""), ne(hosts.certName, ""));
}

/** The host and its agent; undefined when there is no such host any more. */
export async function selectHost(
  q: Queryable,
  id: Id<"host">,
): Promise<(AgentOfHost & { id: Id<"host">; status: HostStatus }) | undefined> {
  const columns = { ...AGENT_COLUMNS, status: hosts.status };
  const [host] = await q.select(columns).from(hosts).where(eq(hosts.id, id));
  return host;
}
