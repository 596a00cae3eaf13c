// What is told of a change.

import type { Id } from "../../proto/ids.ts";
import type { Actor } from "../audit/entry.ts";

export interface NewEvent {
  readonly teamId: Id<"team">;
  /** What it is about: of which kind, in the words of the event specification, and its external id. */
  readonly subject: { readonly type: string; readonly id: string };
  readonly type: string;
  readonly outcome: "success" | "error" | "";
  readonly actor: Actor;
  readonly metadata?: Readonly<Record<string, string>>;
  /** The cause when the outcome is `error`; for clients. */
  readonly error?: string;
}
