// Messages of clients on WebSockets, and what the routes take.

import { Type } from "@sinclair/typebox";
import { TypeCompiler } from "@sinclair/typebox/compiler";
import { type Static, type TSchema, t } from "elysia";
import { PATH_BYTES_MAX, TAG_BYTES_MAX, TERMINAL_SIDE_MAX } from "../../proto/hostagent/bounds.ts";
import { CapsuleParams } from "../capsules/schema.ts";
import { ExecRequest, ProcessParams, VISIBLE } from "../exec/schema.ts";
import { fieldError } from "../field-error.ts";
import type { ClientMessage } from "./socket.ts";

export { CapsuleParams, ProcessParams };

export const StreamQuery = t.Object({
  encoding: t.Optional(
    t.UnionEnum(["utf-8", "base64"], {
      description: "Of `data`. In `utf-8`, by default, bytes that are none are replaced.",
    }),
  ),
});
export type StreamQuery = Static<typeof StreamQuery>;

export const AuthMessage = t.Object({ token: t.String({ minLength: 1, maxLength: 8192 }) });

export const ExecStart = t.Pick(ExecRequest, ["cmd", "args", "envs", "cwd", "user", "timeout_sec"]);
export type ExecStart = Static<typeof ExecStart>;

const Side = Type.Integer({ minimum: 0, maximum: TERMINAL_SIDE_MAX });

export const TerminalStart = t.Composite([
  t.Partial(t.Pick(ExecRequest, ["args", "envs", "user"])),
  t.Object({
    cmd: t.Optional(t.String({ maxLength: PATH_BYTES_MAX, pattern: "^[^\\u0000]*$" })),
    cwd: t.Optional(t.String({ maxLength: PATH_BYTES_MAX, pattern: "^[^\\u0000]*$" })),
    cols: t.Optional(Side),
    rows: t.Optional(Side),
  }),
]);
export type TerminalStart = Static<typeof TerminalStart>;

export const TerminalConnect = t.Object({
  tag: t.String({ maxLength: TAG_BYTES_MAX, pattern: VISIBLE }),
  scrollback: t.Optional(t.Boolean()),
});

export const InputMessage = t.Object({ data: t.String() });

const Shown = Type.Integer({ minimum: 1, maximum: TERMINAL_SIDE_MAX });
export const ResizeMessage = t.Object({ cols: Shown, rows: Shown });

/**
 * Reads a message as the schema says; null counts as left out, as the first Wrenn had it. Throws
 * `invalid_request` that names the field.
 */
export function messageReader<T extends TSchema>(schema: T): (message: ClientMessage) => Static<T> {
  const compiled = TypeCompiler.Compile(schema);
  return (message) => {
    const given = Object.entries(message).filter(([, value]) => value !== null);
    const value: unknown = Object.fromEntries(given);
    if (compiled.Check(value)) return value;
    throw fieldError(compiled.Errors(value).First(), "message");
  };
}
