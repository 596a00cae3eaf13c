// Configs of channels at rest: each value encrypted by itself, bound to its channel and field.
//
// There may be several keys: the first one encrypts, each one opens. Whoever changes keys adds the new one at the end,
// then puts it first, and drops the old one once nothing is encrypted with it any more (`reseal` of the service).

import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import type { Id } from "../../proto/ids.ts";
import { sha256Hex } from "../digest.ts";
import type { ChannelConfig } from "./channel.ts";

const CIPHER = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_INFO = "channel-config";
const KEY_NAME_LENGTH = 16;

interface Key {
  readonly name: string;
  readonly bytes: Buffer;
}

export interface SealedConfig {
  readonly keyName: string;
  /** By field: Base64 of nonce, what is encrypted, and tag. */
  readonly config: Record<string, string>;
}

export class ConfigSealing {
  readonly #keys: readonly [Key, ...Key[]];

  /** 32 bytes each. */
  constructor(keys: readonly [Uint8Array, ...Uint8Array[]]) {
    const [first, ...others] = keys;
    this.#keys = [toKey(first), ...others.map(toKey)];
  }

  /** The one that encrypts is the first. */
  get keyNames(): string[] {
    return this.#keys.map(({ name }) => name);
  }

  seal(channelId: Id<"channel">, config: ChannelConfig): SealedConfig {
    const [key] = this.#keys;
    const sealed = Object.entries(config).map(([field, value]) => {
      const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
      const cipher = createCipheriv(CIPHER, key.bytes, nonce).setAAD(placeOf(channelId, field));
      const content = [cipher.update(value, "utf8"), cipher.final()];
      const bytes = Buffer.concat([nonce, ...content, cipher.getAuthTag()]);
      return [field, bytes.toString("base64")];
    });
    return { keyName: key.name, config: Object.fromEntries(sealed) };
  }

  /** Throws for what was encrypted with a key that is not among these, or for another channel. */
  open(channelId: Id<"channel">, { keyName, config }: SealedConfig): ChannelConfig {
    const key = this.#keys.find(({ name }) => name === keyName);
    if (key === undefined) throw new Error(`no key ${keyName} opens the config of the channel`);
    const opened = Object.entries(config).map(([field, text]) => {
      const bytes = Buffer.from(text, "base64");
      const decipher = createDecipheriv(CIPHER, key.bytes, bytes.subarray(0, NONCE_BYTES))
        .setAAD(placeOf(channelId, field))
        .setAuthTag(bytes.subarray(-TAG_BYTES));
      const content = bytes.subarray(NONCE_BYTES, -TAG_BYTES);
      return [field, Buffer.concat([decipher.update(content), decipher.final()]).toString("utf8")];
    });
    return Object.fromEntries(opened);
  }
}

function toKey(secret: Uint8Array): Key {
  const bytes = Buffer.from(hkdfSync("sha256", secret, Buffer.alloc(0), KEY_INFO, 32));
  return { bytes, name: sha256Hex(bytes.toString("hex")).slice(0, KEY_NAME_LENGTH) };
}

function placeOf(channelId: Id<"channel">, field: string): Buffer {
  return Buffer.from(`${channelId}/${field}`);
}
