// Handing a mail to the SMTP server that the settings name.

import { createTransport } from "nodemailer";
import type { SmtpSettings } from "../config.ts";
import type { Mail } from "./mailer.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** RFC 5321, 4.5.3.2 has minutes, for servers far away; one that is silent so long is tried again later. */
const SILENCE_TIMEOUT_MS = 30_000;
/** Of a whole delivery: a server may say something now and then, and never end. */
const DELIVERY_TIMEOUT_MS = 60_000;
/** Mails that are handed over at the same time. */
export const CONNECTIONS_MAX = 4;

export interface Smtp {
  /**
   * Resolves when the server has taken the mail; `id` tells two deliveries of one mail apart from two mails.
   * `signal` ends the waiting: the server may take the mail then or not.
   */
  deliver(mail: Mail, options: { id: string; signal: AbortSignal }): Promise<void>;
  close(): void;
}

/** `ca`: in PEM, what the settings name. */
export function openSmtp(settings: SmtpSettings, ca: string | null): Smtp {
  const { host, port, security, username: user, password: pass, fromEmail: address } = settings;
  const transport = createTransport({
    ...{ pool: true, maxConnections: CONNECTIONS_MAX },
    ...{ host, port },
    secure: security === "tls",
    requireTLS: security === "starttls",
    ignoreTLS: security === "none",
    ...(user === "" ? {} : { auth: { user, pass } }),
    ...(ca === null ? {} : { tls: { ca } }),
    connectionTimeout: CONNECT_TIMEOUT_MS,
    greetingTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SILENCE_TIMEOUT_MS,
    // A mail is text of ours: nothing in it names a file or a page to be fetched.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const domain = address.slice(address.lastIndexOf("@") + 1);
  return {
    async deliver({ to, subject, text, html }, { id, signal }) {
      const delivery = transport.sendMail({
        from: { name: "Wrenn", address },
        // Not a list of addresses, whatever it holds.
        to: { name: "", address: to },
        ...{ subject, text, html },
        messageId: `<${id}@${domain}>`,
        headers: { "Auto-Submitted": "auto-generated" },
      });
      await before(delivery, AbortSignal.any([signal, AbortSignal.timeout(DELIVERY_TIMEOUT_MS)]));
    },
    close: () => transport.close(),
  };
}

/**
 * Whether the server has refused this very mail for good: its recipient, or what it says. Whatever else it says no
 * to, such as who sends, is for an operator to mend, and then the mail goes.
 */
export function isRefusedForGood(error: unknown): boolean {
  if (!(error instanceof Error) || !("responseCode" in error)) return false;
  const command = "command" in error ? String(error.command) : "";
  return Number(error.responseCode) >= 500 && /^(RCPT TO|DATA)/.test(command);
}

async function before(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const ended = Promise.withResolvers<never>();
  const end = () => ended.reject(new Error("the mail server has not ended the delivery in time"));
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  try {
    await Promise.race([work, ended.promise]);
  } finally {
    signal.removeEventListener("abort", end);
    // Nobody waits for what comes later.
    work.catch(() => {});
  }
}
