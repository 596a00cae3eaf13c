// Telling one receiver of one event, once.

import type { Id } from "../../proto/ids.ts";
import type { Clock } from "../clock.ts";
import type { Db } from "../db/client.ts";
import type { EventPayload } from "../events/payload.ts";
import type { Mailer } from "../mail/mailer.ts";
import { eventMail } from "../mail/messages.ts";
import { type Outbound, OutboundError } from "../outbound/outbound.ts";
import type { ChannelConfig, Provider } from "./channel.ts";
import { detailsOf, summaryOf } from "./message.ts";
import { recipientsOf } from "./provider-config.ts";
import { membersAmong } from "./queries.ts";
import { requestOf } from "./requests.ts";
import { type Verdict, verdictOf } from "./verdict.ts";

export interface SenderDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly mailer: Mailer;
  readonly outbound: Outbound;
  /** Where Telegram's Bot API is, without a trailing slash. */
  readonly telegramUrl: string;
}

export interface Letter {
  readonly teamId: Id<"team">;
  readonly provider: Provider;
  readonly config: ChannelConfig;
  readonly event: EventPayload;
  /** The same for each attempt of one delivery, until it is sent again. */
  readonly deliveryId: string;
}

export class Sender {
  readonly #deps: SenderDeps;

  constructor(deps: SenderDeps) {
    this.#deps = deps;
  }

  /** What became of it; rejects where that is nobody's fault but ours, or `ending` breaks it off. */
  async send({ provider, config, ...letter }: Letter, ending?: AbortSignal): Promise<Verdict> {
    if (provider === "email") return await this.#mail({ ...letter, config });
    const { clock, outbound, telegramUrl } = this.#deps;
    const { event, deliveryId } = letter;
    const sending = { event, deliveryId, now: clock.now(), telegramUrl };
    try {
      const answer = await outbound.send(requestOf(provider, config, sending), ending);
      return verdictOf(provider, answer);
    } catch (error) {
      if (ending?.aborted === true || !(error instanceof OutboundError)) throw error;
      return { kind: "failed", status: null, error: error.message };
    }
  }

  /** The platform's mailer has it from here on, and tries for days. Who has left the team gets none. */
  async #mail({ teamId, config, event }: Omit<Letter, "provider">): Promise<Verdict> {
    const { db, mailer } = this.#deps;
    const members = await membersAmong(db, { teamId, emails: recipientsOf(config) });
    if (members.length === 0) {
      return { kind: "failed", status: null, error: "no address is of a member of the team" };
    }
    const said = { summary: summaryOf(event), type: event.event, details: detailsOf(event) };
    await db.transaction(async (tx) => {
      for (const to of members) await mailer.send(eventMail({ to, ...said }), tx);
    });
    return { kind: "delivered", status: null };
  }
}
