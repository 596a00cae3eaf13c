// The token without which a capsule's guest agent refuses every call: derived, never stored, stable
// for the life of the capsule, and of no use for any other capsule.

import { createHmac, hkdfSync } from "node:crypto";
import { encodeId, type Id } from "../../proto/ids.ts";

const INFO = "envd-access-token";
const SEED_BYTES = 32;
/** No capsule's id begins like this. */
const TRAFFIC_PREFIX = "traffic/";

export class EnvdTokens {
  readonly #seed: Buffer;

  /** From the platform's encryption key. */
  constructor(encryptionKey: Uint8Array) {
    this.#seed = Buffer.from(hkdfSync("sha256", encryptionKey, Buffer.alloc(0), INFO, SEED_BYTES));
  }

  /** 64 hexadecimal digits: HMAC-SHA256 of the capsule's external id. */
  of(capsuleId: Id<"capsule">): string {
    return this.#digest(encodeId("capsule", capsuleId));
  }

  /** The same for the ports of a capsule whose ports are private; says nothing about the other. */
  trafficOf(capsuleId: Id<"capsule">): string {
    return this.#digest(`${TRAFFIC_PREFIX}${encodeId("capsule", capsuleId)}`);
  }

  #digest(text: string): string {
    return createHmac("sha256", this.#seed).update(text).digest("hex");
  }
}
