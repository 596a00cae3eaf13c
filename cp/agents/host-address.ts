// Where the agent of a host listens.

import { eq } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { hosts } from "../db/tables.ts";

export type HostStatus = (typeof hosts.$inferSelect)["status"];

/** Where the agent of the host listens; undefined when there is no such host any more. */
export async function selectHost(
  q: Queryable,
  id: Id<"host">,
): Promise<{ id: Id<"host">; address: string; status: HostStatus } | undefined> {
  const columns = { id: hosts.id, address: hosts.address, status: hosts.status };
  const [host] = await q.select(columns).from(hosts).where(eq(hosts.id, id));
  return host;
}
