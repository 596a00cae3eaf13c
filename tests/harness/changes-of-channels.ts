// How each route that changes a channel is asked with success.

import type { AccountsPlatform, AnswerBody } from "./accounts-platform.ts";
import { RIGHT_BODIES } from "./right-bodies.ts";

interface Asked {
  readonly path: string;
  readonly body?: unknown;
  /** Null: nobody, as for a login. */
  readonly token?: string | null;
}

/** A route that changes something, and what the audit log says of it. */
export interface Change {
  readonly resource: string;
  readonly action: string;
  /** Makes what it is about; without a token it is done by the owner. */
  readonly ask: () => Promise<Asked> | Asked;
}

export function changesOfChannels(by: {
  call: (method: string, path: string, body?: unknown) => Promise<AnswerBody>;
  platform: AccountsPlatform;
}): Record<string, Change> {
  const { call, platform } = by;
  const path = async () => {
    const body = { ...RIGHT_BODIES["POST /v1/channels"], name: `c-${crypto.randomUUID()}` };
    return `/v1/channels/${(await call("POST", "/v1/channels", body)).id}`;
  };
  const dead = async () => {
    const deliveries = `${await path()}/deliveries`;
    await call("POST", "/v1/capsules", {});
    await platform.events.place();
    await platform.database.sql`update channel_deliveries set status = 'dead'`;
    const { items } = await call("GET", deliveries);
    return `${deliveries}/${(items as { id: string }[])[0]?.id}`;
  };
  const resource = "channel";
  return {
    "POST /v1/channels": {
      ...{ resource, action: "create" },
      ask: () => ({ path: "/v1/channels", body: RIGHT_BODIES["POST /v1/channels"] }),
    },
    "PATCH /v1/channels/:id": {
      ...{ resource, action: "update" },
      ask: async () => ({
        ...{ path: await path(), body: { name: "renamed", events: ["host.up"] } },
      }),
    },
    "PUT /v1/channels/:id/config": {
      ...{ resource, action: "rotate_config" },
      ask: async () => ({
        path: `${await path()}/config`,
        body: RIGHT_BODIES["PUT /v1/channels/:id/config"],
      }),
    },
    "DELETE /v1/channels/:id": {
      ...{ resource, action: "delete" },
      ask: async () => ({ path: await path() }),
    },
    "POST /v1/channels/:id/deliveries/:delivery/redeliver": {
      ...{ resource, action: "redeliver" },
      ask: async () => ({ path: `${await dead()}/redeliver` }),
    },
  };
}
