// The header that makes a repeated request safe.

import { t } from "elysia";

/** Long enough for a UUID with any prefix, short enough for an index. */
const KEY_LENGTH_MAX = 255;

export const IdempotencyHeaders = t.Object({
  "idempotency-key": t.Optional(
    t.String({
      maxLength: KEY_LENGTH_MAX,
      pattern: "^[\\x20-\\x7e]+$",
      description:
        "Asked again with the same key and body nothing is done twice: the answer is what the first came to.",
    }),
  ),
});
