// Sending mail: by SMTP, or as files where there is no mail server.

import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createTransport } from "nodemailer";
import type { Clock } from "../clock.ts";
import type { SmtpSettings } from "../config.ts";
import type { Log } from "../log.ts";

const SMTP_TIMEOUT_MS = 30_000;
/** The port on which SMTP is TLS from the first byte; on others it is upgraded by STARTTLS. */
const SMTP_TLS_PORT = 465;

export interface Mail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

export interface Mailer {
  /** Resolves when the mail is on its way, which is not when it has arrived. */
  send(mail: Mail): Promise<void>;
  /** Waits for what is on its way. */
  close(): Promise<void>;
}

/** Delivers in the background, once; a mail that can't be delivered is logged without its text. */
export function createSmtpMailer(settings: SmtpSettings, log: Log): Mailer {
  const isTls = settings.port === SMTP_TLS_PORT;
  const transport = createTransport({
    host: settings.host,
    port: settings.port,
    secure: isTls,
    requireTLS: !isTls && settings.username !== "",
    ...(settings.username === ""
      ? {}
      : { auth: { user: settings.username, pass: settings.password } }),
    connectionTimeout: SMTP_TIMEOUT_MS,
    greetingTimeout: SMTP_TIMEOUT_MS,
    socketTimeout: SMTP_TIMEOUT_MS,
  });
  const from = { name: "Wrenn", address: settings.fromEmail };
  const underWay = new Set<Promise<void>>();

  async function deliver(mail: Mail): Promise<void> {
    try {
      await transport.sendMail({ from, ...mail });
    } catch (error) {
      log.error("mail was not delivered", { subject: mail.subject, error });
    }
  }

  return {
    async send(mail) {
      const delivery = deliver(mail).finally(() => underWay.delete(delivery));
      underWay.add(delivery);
    },
    async close() {
      await Promise.all(underWay);
      transport.close();
    },
  };
}

/**
 * Writes each mail as `<dir>/<time>-<number>.txt`: headers, an empty line, the text. The file is
 * whole when it appears, and `send` resolves after that.
 */
export function createFileMailer(options: { dir: string; clock: Clock }): Mailer {
  return {
    async send({ to, subject, text }) {
      await mkdir(options.dir, { recursive: true, mode: 0o700 });
      const time = options.clock.now().toISOString().replaceAll(/[:.]/g, "-");
      const path = join(options.dir, `${time}-${crypto.randomUUID().slice(0, 8)}.txt`);
      const content = `To: ${to}\nSubject: ${subject}\n\n${text}\n`;
      await writeFile(`${path}.part`, content, { mode: 0o600, flag: "wx" });
      await rename(`${path}.part`, path);
    },
    async close() {},
  };
}

/** For an installation without mail: says once per mail that it was dropped, never what it held. */
export function createNullMailer(log: Log): Mailer {
  return {
    async send({ subject }) {
      log.warn("mail dropped: neither SMTP_HOST nor WRENN_MAIL_DIR is set", { subject });
    },
    async close() {},
  };
}
