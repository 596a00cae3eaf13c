// Sending mail: what a mail is, and the two ways to do without a mail server.

import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import type { Queryable } from "../db/client.ts";
import type { Log } from "../log.ts";

export interface Mail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
  /** As long as it is of any use to whoever gets it. */
  readonly lifeSec: number;
}

export interface Mailer {
  /**
   * Takes the mail, which is not when it has arrived. With `q`, the transaction that does what the mail tells of,
   * there is a mail if and only if that is done.
   */
  send(mail: Mail, q: Queryable): Promise<void>;
}

/**
 * Writes each mail as `<dir>/<time>-<number>.txt`: headers, an empty line, the text. The file is
 * whole when it appears, and `send` resolves after that, whatever becomes of the transaction.
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
  };
}

/** For an installation without mail: says once per mail that it was dropped, never what it held. */
export function createNullMailer(log: Log): Mailer {
  return {
    async send({ subject }) {
      log.warn("mail dropped: neither SMTP_HOST nor WRENN_MAIL_DIR is set", { subject });
    },
  };
}
