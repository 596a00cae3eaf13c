// Signing in by a provider, on the wire.

import { Type } from "@sinclair/typebox";

const provider = Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,31}$" });
export const ProviderParams = Type.Object({ provider });

// A union of literals: Elysia gives an absent UnionEnum its first value.
export const StartQuery = Type.Object({
  intent: Type.Optional(Type.Union([Type.Literal("login"), Type.Literal("signup")])),
});

const short = Type.Optional(Type.String({ maxLength: 4096 }));
/** What providers add; whatever else they do is theirs. */
export const CallbackQuery = Type.Object(
  { code: short, state: short, error: short },
  { additionalProperties: Type.Unknown() },
);

export const ConnectStarted = Type.Object(
  { auth_url: Type.String({ description: "Of the provider, where the browser goes now." }) },
  { $id: "ConnectStarted" },
);
