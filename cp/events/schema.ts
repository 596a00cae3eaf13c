// Events of the past, on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { ACTOR_TYPES } from "../db/tables.ts";
import { AppError } from "../errors.ts";
import { parseWholeNumber, wholeNumber } from "../whole-number.ts";
import { ID_LENGTH_MAX, parseId } from "../wire.ts";
import { type EventPage, type EventRow, toPayload } from "./payload.ts";

const LIMIT_DEFAULT = 50;
const LIMIT = { minimum: 1, maximum: 200 };
const NAMES_MAX = 20;
/** Names of snapshots are resources, too. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export const EventQuery = t.Object({
  after: t.Optional(
    t.String({
      maxLength: ID_LENGTH_MAX,
      description: "Later than this event: `next_after` of the page before.",
    }),
  ),
  resource: t.Optional(
    t.String({
      maxLength: 2048,
      description: "Only of these: `sandbox`, `snapshot`, `host`, or ids; with commas between.",
    }),
  ),
  type: t.Optional(
    t.String({
      maxLength: 1024,
      description:
        "Only these, with commas between. Without it all but `capsule.state.changed`, of states on the way to others.",
    }),
  ),
  limit: t.Optional(wholeNumber({ ...LIMIT, description: `Default ${LIMIT_DEFAULT}.` })),
});
export type EventQuery = Static<typeof EventQuery>;

const PlatformEvent = Type.Object(
  {
    id: Type.String({ description: "The same wherever and however often it is told." }),
    event: Type.String({ description: "`capsule.create`, say." }),
    outcome: Type.Optional(t.UnionEnum(["success", "error"])),
    timestamp: Type.String({ format: "date-time" }),
    team_id: Type.String(),
    actor: Type.Object({
      type: t.UnionEnum(ACTOR_TYPES, { description: "`system`: the platform by itself." }),
      id: Type.Optional(Type.String()),
      name: Type.Optional(Type.String({ description: "A user's mail address, a key's name." })),
    }),
    resource: Type.Object({ id: Type.String(), type: Type.String() }),
    metadata: Type.Optional(Type.Record(Type.String(), Type.String())),
    error: Type.Optional(Type.String({ description: "The cause, when the outcome is `error`." })),
  },
  { $id: "Event" },
);

export const EventList = Type.Object(
  {
    items: Type.Array(PlatformEvent),
    has_more: Type.Boolean({ description: "Whether there are later ones already." }),
    next_after: Type.Optional(
      Type.String({ description: "For what comes next, now or later; missing where nothing was." }),
    ),
  },
  { $id: "EventList" },
);
type EventList = Static<typeof EventList>;

/** Throws `invalid_request`. */
export function toPageRequest({ after, limit }: EventQuery) {
  return {
    after: after === undefined ? undefined : parseId("event", after, "after"),
    limit: limit === undefined ? LIMIT_DEFAULT : parseWholeNumber(limit, "limit", LIMIT),
  };
}

/** Throws `invalid_request`. */
export function toWhich({ resource, type }: EventQuery) {
  return { resources: namesIn(resource, "resource"), types: namesIn(type, "type") };
}

function namesIn(text: string | undefined, field: string): string[] {
  const names = (text ?? "").split(",").map((name) => name.trim());
  const given = names.filter((name) => name !== "");
  if (given.length <= NAMES_MAX && given.every((name) => NAME.test(name))) return given;
  throw new AppError("invalid_request", `${field}: at most ${NAMES_MAX} names`);
}

export function toEventList({ rows, hasMore }: EventPage, asked: EventQuery): EventList {
  const last: EventRow | undefined = rows.at(-1);
  const next = last === undefined ? asked.after : encodeId("event", last.eventId);
  return {
    items: rows.map((row) => {
      const { actor, ...payload } = toPayload(row);
      return { ...payload, actor: { ...actor, type: row.actor.type } };
    }),
    has_more: hasMore,
    ...(next === undefined ? {} : { next_after: next }),
  };
}
