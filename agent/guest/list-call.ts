// Calls to envd that answer with one list. Reading all of it at once would hold up everybody else: a
// mebibyte may be half a million items, and many are honest. So it is read item by item.

import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { untilAnswered } from "../../proto/answer-scope.ts";
import type { HeldBytes } from "../../proto/byte-budget.ts";
import { TimeSlice } from "../../proto/time-slice.ts";
import { AgentError, type ErrorSubject } from "../errors.ts";
import {
  LIST_ANSWER_BYTES_MAX,
  LIST_ITEM_BYTES_MAX,
  LIST_ITEMS_MAX,
  LIST_MEMORY_FACTOR,
} from "../limits.ts";
import type { Guest, GuestCallOptions } from "./guest.ts";
import type { GuestCall } from "./guest-errors.ts";
import { badAnswer, readChunks } from "./guest-http.ts";

/** Of the repeated field that is the list, in each answer of that kind. */
const LIST_FIELD = 1;
const PROTO = "application/proto";

export interface ListCall<I extends DescMessage, T extends DescMessage> {
  readonly method: DescMethodUnary<I>;
  readonly request: MessageInitShape<I>;
  readonly item: T;
  readonly timeoutMs?: number;
}

/** What is in the list. Throws AgentError: resource_exhausted for too many, and what other calls throw. */
export async function callForList<I extends DescMessage, T extends DescMessage>(
  guest: Guest,
  about: Omit<GuestCall, "closed">,
  { method, request, item, timeoutMs }: ListCall<I, T>,
): Promise<MessageShape<T>[]> {
  const held = guest.hold();
  const ask = async ({ signal, headers }: GuestCallOptions) => {
    const response = await guest.http.send({
      method: "POST",
      path: `/${method.parent.typeName}/${method.name}`,
      headers: { ...headers, "Content-Type": PROTO, "Connect-Protocol-Version": "1" },
      body: toBinary(method.input, create(method.input, request)),
      signal,
    });
    const bytes = await readBytes(response, about.subject, held);
    if (response.status !== 200) {
      const fallback = new ConnectError(`HTTP ${response.status}`, Code.Unavailable);
      throw errorFromJsonBytes(bytes, undefined, fallback);
    }
    if (response.headers.get("content-type") !== PROTO) throw badAnswer("it is no list");
    return await itemsOf(bytes, item, about.subject);
  };
  try {
    return await guest.call(about, ask, timeoutMs);
  } finally {
    untilAnswered(held);
  }
}

async function readBytes(
  response: Response,
  subject: ErrorSubject,
  held: HeldBytes,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body === null ? [] : readChunks(response.body)) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > LIST_ANSWER_BYTES_MAX) throw tooMany(subject);
    held.take(chunk.byteLength * LIST_MEMORY_FACTOR);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function itemsOf<T extends DescMessage>(
  bytes: Uint8Array,
  item: T,
  subject: ErrorSubject,
): Promise<MessageShape<T>[]> {
  const slice = new TimeSlice();
  const items: MessageShape<T>[] = [];
  try {
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === LIST_FIELD && wireType === WireType.LengthDelimited) {
        const text = reader.bytes();
        if (text.byteLength > LIST_ITEM_BYTES_MAX) throw tooMany(subject);
        if (items.push(fromBinary(item, text)) > LIST_ITEMS_MAX) throw tooMany(subject);
      } else reader.skip(wireType, field);
      if (slice.isOver) await slice.step();
    }
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw badAnswer("it is no list", error);
  }
  return items;
}

function tooMany(subject: ErrorSubject): AgentError {
  return new AgentError("resource_exhausted", `The list has more than ${LIST_ITEMS_MAX} entries`, {
    subject,
  });
}
