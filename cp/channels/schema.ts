// Channels on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { CHANNEL_EVENTS } from "../events/event-types.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import { BROKEN_AFTER_FAILURES, type ChannelRow, PROVIDERS, type Provider } from "./channel.ts";
import { asStandardSecret } from "./signature.ts";

const NAME_LENGTH_MAX = 200;
const VALUE_LENGTH_MAX = 4096;
const FIELDS_MAX = 8;

const name = Type.String({
  maxLength: NAME_LENGTH_MAX,
  description: "Kept in lower case, with hyphens for spaces; letters, digits, `.`, `-`, `_`.",
});
// Elysia puts the first value of a UnionEnum where there is none.
const provider = Type.Unsafe<Provider>(Type.Union(PROVIDERS.map((one) => Type.Literal(one))));
const config = Type.Record(Type.String(), Type.String({ maxLength: VALUE_LENGTH_MAX }), {
  maxProperties: FIELDS_MAX,
  description:
    "`webhook`: `url`, `secret` if you choose it; `discord`, `slack`, `teams`, `googlechat`: `webhook_url`; " +
    "`telegram`: `bot_token`, `chat_id`; `matrix`: `homeserver_url`, `access_token`, `room_id`; " +
    "`email`: `to`, addresses of members of the team, with commas between.",
});
const events = Type.Array(t.UnionEnum(CHANNEL_EVENTS), {
  minItems: 1,
  maxItems: CHANNEL_EVENTS.length,
  uniqueItems: true,
  description: "Each with its successes and its failures.",
});

export const CreateChannel = Type.Object({ name, provider, config, events });
export const UpdateChannel = Type.Object({ name, events });
export const RotateConfig = Type.Object({ config });
export const TestChannel = Type.Object({ provider, config });
export const Tested = Type.Object({ status: t.UnionEnum(["ok"]) }, { $id: "ChannelTested" });

export const ChannelParams = Type.Object({ id: Type.String({ maxLength: ID_LENGTH_MAX }) });

export const Channel = Type.Object(
  {
    id: Type.String(),
    team_id: Type.String(),
    name: Type.String(),
    provider: Type.String(),
    events: Type.Array(Type.String()),
    status: t.UnionEnum(["active", "failing"], {
      description: "`failing`: nothing arrived lately, so it is tried now and then only.",
    }),
    created_at: Type.String({ format: "date-time" }),
    updated_at: Type.String({ format: "date-time" }),
    secret: Type.Optional(
      Type.String({ description: "What webhooks are signed with: only when it is set." }),
    ),
    standard_webhooks_secret: Type.Optional(
      Type.String({ description: "The same as the libraries of Standard Webhooks take it." }),
    ),
  },
  { $id: "Channel" },
);
type Channel = Static<typeof Channel>;

export const ChannelList = Type.Array(Channel);

/** `secret` is known only while it is being set. */
export function toChannel(row: ChannelRow, secret?: string): Channel {
  return {
    id: encodeId("channel", row.id),
    team_id: encodeId("team", row.teamId),
    name: row.name,
    provider: row.provider,
    events: row.eventTypes,
    status: row.failures >= BROKEN_AFTER_FAILURES ? "failing" : "active",
    created_at: timestamp(row.createdAt),
    updated_at: timestamp(row.updatedAt),
    ...(secret === undefined ? {} : { secret, standard_webhooks_secret: asStandardSecret(secret) }),
  };
}
