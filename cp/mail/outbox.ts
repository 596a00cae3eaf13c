// Mails on their way: rows of the database until the mail server has taken them, or their time is over.
//
// A mail is a row of the transaction that does what the mail tells of, so that neither is without the other. Every
// control plane delivers: it takes rows for a while, and one that dies meanwhile leaves them to the others. A mail that
// was delivered when that happened is delivered again, with the same Message-ID. Mails hold codes that
// open accounts, so a row is encrypted: who reads the database, or a copy of it, opens none.

import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { Db, Queryable } from "../db/client.ts";
import type { Log } from "../log.ts";
import type { Mail, Mailer } from "./mailer.ts";
import {
  claimMails,
  deleteMail,
  deleteMailsPastTime,
  insertMail,
  type MailRow,
  postponeMail,
} from "./queries.ts";
import { CONNECTIONS_MAX, isRefusedForGood, type Smtp } from "./smtp.ts";

const CIPHER = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_INFO = "mail-outbox";
/** A delivery ends in a minute. */
const CLAIM_SEC = 300;
/** The first pause after a failure; each later one is twice as long, up to the last. */
const RETRY_FIRST_SEC = 5;
const RETRY_LAST_SEC = 900;
/** What is being delivered when the process must end gets this long. */
const STOP_GRACE_MS = 5000;
const EXPIRE_BATCH = 1000;

const SealedMail = Type.Object({
  to: Type.String(),
  subject: Type.String(),
  text: Type.String(),
  html: Type.String(),
  lifeSec: Type.Number(),
});

export interface OutboxDeps {
  readonly db: Db;
  readonly smtp: Smtp;
  readonly encryptionKey: Uint8Array;
  readonly log: Log;
}

/** What a pass did: of those postponed are tried again; those dropped were refused for good, or too old. */
export type Deliveries = Record<"delivered" | "postponed" | "dropped", number>;

export class Outbox implements Mailer {
  readonly #deps: OutboxDeps;
  readonly #key: Buffer;

  constructor(deps: OutboxDeps) {
    this.#deps = deps;
    this.#key = Buffer.from(hkdfSync("sha256", deps.encryptionKey, Buffer.alloc(0), KEY_INFO, 32));
  }

  async send(mail: Mail, q: Queryable): Promise<void> {
    const id = crypto.randomUUID();
    await insertMail(q, { id, sealed: this.#seal(id, mail), lifeSec: mail.lifeSec });
  }

  /** Delivers all that is due, until `ending` aborts. */
  async deliver(ending: AbortSignal): Promise<Deliveries> {
    const grace = new AbortController();
    const startGrace = () => {
      AbortSignal.timeout(STOP_GRACE_MS).addEventListener("abort", () => grace.abort());
    };
    ending.addEventListener("abort", startGrace);
    const counts = { delivered: 0, postponed: 0, dropped: await this.#dropOld() };
    try {
      while (!ending.aborted) {
        const claim = { limit: CONNECTIONS_MAX, claimSec: CLAIM_SEC };
        const due = await claimMails(this.#deps.db, claim);
        const outcomes = await Promise.all(due.map((row) => this.#deliver(row, grace.signal)));
        for (const outcome of outcomes) counts[outcome] += 1;
        // While the server is away each pass asks it once.
        if (due.length < CONNECTIONS_MAX || outcomes.includes("postponed")) break;
      }
    } finally {
      ending.removeEventListener("abort", startGrace);
    }
    return counts;
  }
  /** Never rejects but for the database's sake. */
  async #deliver(row: MailRow, signal: AbortSignal): Promise<keyof Deliveries> {
    const { db, smtp, log } = this.#deps;
    const { id, attempts } = row;
    try {
      await smtp.deliver(this.#open(row), { id, signal });
    } catch (error) {
      if (isRefusedForGood(error)) {
        log.error("mail was refused for good", { mail: id, attempts, error });
        await deleteMail(db, id);
        return "dropped";
      }
      const inSec = Math.min(RETRY_FIRST_SEC * 2 ** (attempts - 1), RETRY_LAST_SEC);
      log.warn("mail is delivered later", { mail: id, attempts, inSec, error });
      await postponeMail(db, { id, inSec });
      return "postponed";
    }
    await deleteMail(db, id);
    return "delivered";
  }

  async #dropOld(): Promise<number> {
    const ids = await deleteMailsPastTime(this.#deps.db, EXPIRE_BATCH);
    for (const mail of ids) {
      this.#deps.log.error("mail was not delivered in time, and is of no use any more", { mail });
    }
    return ids.length;
  }

  #seal(id: string, mail: Mail): string {
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
    const cipher = createCipheriv(CIPHER, this.#key, nonce).setAAD(Buffer.from(id));
    const content = [cipher.update(JSON.stringify(mail), "utf8"), cipher.final()];
    return Buffer.concat([nonce, ...content, cipher.getAuthTag()]).toString("base64");
  }

  /** Throws for a row that was encrypted with another key, or for another one. */
  #open({ id, sealed }: MailRow): Mail {
    const bytes = Buffer.from(sealed, "base64");
    const content = bytes.subarray(NONCE_BYTES, -TAG_BYTES);
    const decipher = createDecipheriv(CIPHER, this.#key, bytes.subarray(0, NONCE_BYTES))
      .setAAD(Buffer.from(id))
      .setAuthTag(bytes.subarray(-TAG_BYTES));
    const text = Buffer.concat([decipher.update(content), decipher.final()]).toString("utf8");
    return Value.Parse(SealedMail, JSON.parse(text));
  }
}
