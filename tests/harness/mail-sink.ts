// A real SMTP server for tests: it takes mails, and holds or refuses them as a test wants.

import { once } from "node:events";
import type { AddressInfo } from "node:net";
import PostalMime, { type Email } from "postal-mime";
import { SMTPServer } from "smtp-server";

export interface SunkMail {
  readonly recipients: readonly string[];
  readonly isEncrypted: boolean;
  readonly username: string | undefined;
  readonly raw: string;
  readonly mail: Email;
}

export interface MailSinkOptions {
  /** A free one unless it is named. */
  readonly port?: number;
  readonly tls?: { readonly cert: string; readonly key: string };
  /** TLS from the first byte. */
  readonly isImplicit?: boolean;
  readonly credentials?: { readonly username: string; readonly password: string };
  /** The answer to a recipient; undefined takes it. */
  readonly refuse?: (address: string) => { code: number; text: string } | undefined;
  /** Awaited before a mail is taken. */
  readonly hold?: (mail: SunkMail) => Promise<void>;
}

export class MailSink implements AsyncDisposable {
  /** In the order they were taken. */
  readonly mails: SunkMail[] = [];
  readonly #server: SMTPServer;

  private constructor(options: MailSinkOptions) {
    const { tls, credentials } = options;
    this.#server = new SMTPServer({
      secure: options.isImplicit ?? false,
      ...tls,
      ...(tls === undefined ? { disabledCommands: ["STARTTLS"] } : {}),
      authOptional: credentials === undefined,
      allowInsecureAuth: true,
      closeTimeout: 100,
      onAuth: ({ username, password }, _session, done) => {
        const isRight = credentials?.username === username && credentials?.password === password;
        if (isRight) done(null, { user: username });
        else done(new Error("535 wrong credentials"));
      },
      onRcptTo: ({ address }, _session, done) => {
        const refusal = options.refuse?.(address);
        if (refusal === undefined) return done();
        done(Object.assign(new Error(refusal.text), { responseCode: refusal.code }));
      },
      onData: async (stream, session, done) => {
        const chunks: Buffer[] = [];
        for await (const chunk of stream) chunks.push(chunk);
        const raw = Buffer.concat(chunks).toString("utf8");
        const sunk: SunkMail = {
          recipients: session.envelope.rcptTo.map(({ address }) => address),
          isEncrypted: session.secure,
          username: session.user,
          raw,
          mail: await PostalMime.parse(raw),
        };
        await options.hold?.(sunk);
        this.mails.push(sunk);
        done();
      },
    });
    // Of a client that hangs up.
    this.#server.on("error", () => {});
  }

  static async start(options: MailSinkOptions = {}): Promise<MailSink> {
    const sink = new MailSink(options);
    const listening = once(sink.#server.server, "listening");
    sink.#server.listen(options.port ?? 0, "127.0.0.1");
    await listening;
    return sink;
  }

  get port(): number {
    return (this.#server.server.address() as AddressInfo).port;
  }

  to(address: string): SunkMail[] {
    return this.mails.filter(({ recipients }) => recipients.includes(address));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
