// Reading JSON bodies: bounded, whatever the content type says.

import { untilAnswered } from "../proto/answer-scope.ts";
import { ByteBudgets, type HeldBytes } from "../proto/byte-budget.ts";
import { TimeSlice } from "../proto/time-slice.ts";
import { BoundlessJson, parseLargeJson } from "./bounded-json.ts";
import { AppError } from "./errors.ts";
import { fieldName } from "./field-error.ts";

/** Far above any honest request (environments, lists of ids); stops memory abuse. */
export const JSON_BODY_BYTES_MAX = 1024 * 1024;

/**
 * Of a command: Linux takes 2 MiB of arguments and environment by default, and JSON has two characters
 * for each quote or backslash.
 */
export const COMMAND_BODY_BYTES_MAX = (2 * 2048 + 64) * 1024;

/** A body is there as it came and as what it says, until its request is answered. */
const BODY_MEMORY_FACTOR = 2;
/** Of a sender whom nobody knows yet: sign-up, login, a host's registration. Connections bound their sum. */
const STRANGERS_BODY_BYTES_MAX = 16 * 1024;
/** Of one team, host or user: eight of the largest commands. */
export const BODIES_PER_TEAM_BYTES_MAX = 64 * 1024 * 1024;
const BODIES_BYTES_MAX = 256 * 1024 * 1024;

/** Of this process, as its memory is. */
const bodies = new ByteBudgets();

/**
 * The parsed JSON of a request, or null when the body is empty. Used as a route's `parse`, in place of
 * Elysia's own parser, which depends on the content type and has no bound. `payer` is the team, user or
 * host that sends it; without one only little is read, and no others' bodies are in its way. Throws
 * `too_large`, `invalid_request` for anything that is no JSON, and `rate_limited` or
 * `service_unavailable` while too much is held of bodies.
 */
export async function readJsonBody({
  request,
  payer,
  bytesMax = payer === undefined ? STRANGERS_BODY_BYTES_MAX : JSON_BODY_BYTES_MAX,
}: {
  request: Request;
  bytesMax?: number;
  payer?: string | undefined;
}): Promise<unknown> {
  if (request.body === null) return null;
  const held = holdBody(payer);
  untilAnswered(held);
  const bytes = await readBounded(request, { body: request.body, bytesMax, held });
  // Four mebibytes are decoded, looked over, parsed and checked: each takes some 10 ms.
  const slice = new TimeSlice();
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    await slice.step();
    if (text.trim() === "") return null;
    const value = requireText(await parseLargeJson(text, slice), text);
    await slice.step();
    return value;
  } catch (error) {
    if (error instanceof AppError) throw error;
    if (error instanceof BoundlessJson) {
      throw new AppError("invalid_request", `JSON body: ${error.message}`);
    }
    throw new AppError("invalid_request", "invalid JSON body", { cause: error });
  }
}

/** The whole body; a declared length is trusted, for the HTTP server holds the client to it. */
async function readBounded(
  request: Request,
  { body, bytesMax, held }: { body: ReadableStream<Uint8Array>; bytesMax: number; held: HeldBytes },
) {
  const declared = request.headers.get("content-length");
  if (declared !== null) {
    if (Number(declared) > bytesMax) throw tooLarge(bytesMax);
    held.take(Number(declared) * BODY_MEMORY_FACTOR);
    return new Uint8Array(await request.arrayBuffer());
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > bytesMax) throw tooLarge(bytesMax);
    held.take(chunk.byteLength * BODY_MEMORY_FACTOR);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function holdBody(payer: string | undefined): HeldBytes {
  if (payer === undefined) return bodies.hold([]);
  return bodies.hold([
    {
      key: payer,
      bytesMax: BODIES_PER_TEAM_BYTES_MAX,
      refuse: () => new AppError("rate_limited", "requests of yours take too much memory at once"),
    },
    {
      key: null,
      bytesMax: BODIES_BYTES_MAX,
      refuse: () =>
        new AppError("service_unavailable", "the service holds too much at once: try again"),
    },
  ]);
}

/** Half of a surrogate pair, as only an escape can have it: whoever wrote it on would write U+FFFD. */
const LONE_SURROGATE = /\\u[dD][89a-fA-F]/;

/** The value. Throws `invalid_request` naming a field whose text is none. */
function requireText(value: unknown, json: string): unknown {
  const field = LONE_SURROGATE.test(json) ? malformedField(value, []) : null;
  if (field === null) return value;
  throw new AppError("invalid_request", `${fieldName(field) || "body"}: is not well-formed text`);
}

function malformedField(value: unknown, path: readonly string[]): readonly string[] | null {
  if (typeof value === "string") return value.isWellFormed() ? null : path;
  if (typeof value !== "object" || value === null) return null;
  for (const [name, inner] of Object.entries(value)) {
    if (!name.isWellFormed()) return path;
    const found = malformedField(inner, [...path, name]);
    if (found !== null) return found;
  }
  return null;
}

function tooLarge(bytesMax: number): AppError {
  return new AppError("too_large", `request body is larger than ${bytesMax} bytes`);
}
