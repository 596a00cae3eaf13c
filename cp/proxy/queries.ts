// SQL of the proxy.

import { eq, sql } from "drizzle-orm";
import { AGENT_COLUMNS } from "../agents/host-address.ts";
import type { Db } from "../db/client.ts";
import { capsules, hosts } from "../db/tables.ts";

/** Where a capsule is, prepared: it is asked for many times a second. */
export function prepareProxyQueries(db: Db) {
  const placement = db
    .select({
      status: capsules.status,
      snapshottedFrom: capsules.snapshottedFrom,
      agent: AGENT_COLUMNS,
      privatePorts: capsules.privatePorts,
    })
    .from(capsules)
    .leftJoin(hosts, eq(hosts.id, capsules.hostId))
    .where(eq(capsules.id, sql.placeholder("id")))
    .prepare("proxy_placement");
  return async (id: string) => (await placement.execute({ id }))[0];
}
