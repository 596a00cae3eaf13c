// Mails to a real SMTP server: how it is spoken to, and what arrives.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificates, tlsPaths } from "../../scripts/dev/tls.ts";
import { MailSink, type MailSinkOptions } from "../../tests/harness/mail-sink.ts";
import type { SmtpSettings } from "../config.ts";
import {
  activationMail,
  addedToTeamMail,
  invitationMail,
  passwordChangedMail,
  passwordResetMail,
  providerChangedMail,
  teamCreatedMail,
} from "./messages.ts";
import { isRefusedForGood, openSmtp } from "./smtp.ts";

const TO = "ada@example.com";
const CREDENTIALS = { username: "wrenn", password: "hidden" };
const CODE = { publicUrl: "https://wrenn.test", token: "0a1b", lifeSec: 1800 };
const MAIL = activationMail({ to: TO, name: "Ada", ...CODE });
const SIGNAL = new AbortController().signal;

let dir: string;
let tls: { cert: string; key: string };
let ca: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-smtp-"));
  const paths = tlsPaths(dir);
  await makeCertificates(dir, "mail.test");
  const read = (path: string) => Bun.file(path).text();
  tls = { cert: await read(paths.certFile), key: await read(paths.keyFile) };
  ca = await read(paths.caCertFile);
});

afterAll(() => rm(dir, { recursive: true }));

function open(sink: { port: number }, settings: Partial<SmtpSettings> = {}, trusted = true) {
  const standard = { host: "localhost", username: "", password: "", security: "none" } as const;
  const smtp = openSmtp(
    { ...standard, port: sink.port, fromEmail: "noreply@wrenn.test", caFile: null, ...settings },
    trusted ? ca : null,
  );
  return {
    deliver: (mail = MAIL) => smtp.deliver(mail, { id: crypto.randomUUID(), signal: SIGNAL }),
    [Symbol.dispose]: () => smtp.close(),
  };
}

describe("the server is spoken to", () => {
  test.each<[SmtpSettings["security"], boolean, MailSinkOptions]>([
    ["tls", true, { isImplicit: true }],
    ["starttls", true, {}],
    ["auto", true, {}],
    ["none", false, {}],
  ])("%s: encrypted %p, with the credentials", async (security, isEncrypted, options) => {
    await using sink = await MailSink.start({ tls, credentials: CREDENTIALS, ...options });
    using smtp = open(sink, { security, ...CREDENTIALS });

    await smtp.deliver();
    expect(sink.mails).toMatchObject([{ isEncrypted, username: "wrenn", recipients: [TO] }]);
  });

  test("no credentials go to a server that offers no encryption, unless somebody says so", async () => {
    await using sink = await MailSink.start({ credentials: CREDENTIALS });
    using smtp = open(sink, { security: "starttls", ...CREDENTIALS });

    expect(await smtp.deliver().catch(String)).toContain("STARTTLS");
    expect(sink.mails).toEqual([]);
  });

  test.each(["tls", "starttls"] as const)(
    "%s: a server that nobody trusts gets nothing",
    async (security) => {
      await using sink = await MailSink.start({ tls, isImplicit: security === "tls" });
      using smtp = open(sink, { security }, false);

      expect(await smtp.deliver().catch(String)).toMatch(/certificate/);
      expect(sink.mails).toEqual([]);
    },
  );

  test("what it refuses for good is told apart from what it may take later", async () => {
    const codes: Record<string, number> = { "gone@x.test": 550, "full@x.test": 452 };
    await using sink = await MailSink.start({
      refuse: (address) => ({ code: codes[address] ?? 550, text: "no" }),
    });
    await using guarded = await MailSink.start({ credentials: CREDENTIALS });
    using smtp = open(sink);
    using wrong = open(guarded, { username: "wrenn", password: "another" });
    using nowhere = open({ port: 1 });
    const outcome = async ({ deliver }: ReturnType<typeof open>, to: string) =>
      await deliver({ ...MAIL, to }).then(
        () => "delivered",
        (error) => isRefusedForGood(error),
      );

    expect(await outcome(smtp, "gone@x.test")).toBe(true);
    expect(await outcome(smtp, "full@x.test")).toBe(false);
    expect(await outcome(wrong, TO)).toBe(false);
    expect(await outcome(nowhere, TO)).toBe(false);
  });

  test("a delivery that must end does so, whatever the server does", async () => {
    const never = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    await using sink = await MailSink.start({
      hold: () => {
        held.resolve();
        return never.promise;
      },
    });
    const smtp = openSmtp(
      {
        ...{ host: "localhost", port: sink.port, username: "", password: "", security: "none" },
        ...{ fromEmail: "noreply@wrenn.test", caFile: null },
      },
      null,
    );
    const ending = new AbortController();
    const delivery = smtp.deliver(MAIL, { id: "1", signal: ending.signal }).catch(String);

    await held.promise;
    ending.abort();
    expect(await delivery).toContain("not ended the delivery in time");
    never.resolve();
    smtp.close();
  });
});

/** What somebody chose, for a mail to somebody else. */
const HOSTILE = "Eve\r\nBcc: all@evil.test\r\n\r\n<a href=x>http://evil.test</a>";

describe("what arrives", () => {
  const link = (path: string) => `https://wrenn.test/${path}?token=0a1b`;
  const MAILS = {
    activation: [activationMail({ to: TO, name: HOSTILE, ...CODE }), link("activate")],
    reset: [passwordResetMail({ to: TO, name: HOSTILE, ...CODE }), link("reset-password")],
    changed: [passwordChangedMail({ to: TO, name: HOSTILE, change: "changed" }), "was changed"],
    added: [passwordChangedMail({ to: TO, name: HOSTILE, change: "added" }), "was added"],
    "reset done": [passwordChangedMail({ to: TO, name: HOSTILE, change: "reset" }), "was reset"],
    team: [teamCreatedMail({ to: TO, name: "Ada", teamName: HOSTILE }), "is ready"],
    invitation: [
      invitationMail({ to: TO, inviter: HOSTILE, teamName: HOSTILE, role: "admin", ...CODE }),
      link("invitation"),
    ],
    provider: [
      providerChangedMail({ to: TO, name: HOSTILE, provider: "corp", change: "connected" }),
      "sign in to your account by corp",
    ],
    member: [addedToTeamMail({ to: TO, name: "Ada", teamName: HOSTILE }), "you can leave it"],
  } as const;

  test.each(Object.entries(MAILS))(
    "%s: to one person, from us, with nothing that another one put into it",
    async (_name, [mail, says]) => {
      await using sink = await MailSink.start();
      using smtp = open(sink);

      await smtp.deliver(mail);
      const [sunk] = sink.mails;
      expect(sunk?.recipients).toEqual([TO]);
      expect(sunk?.mail).toMatchObject({
        from: { name: "Wrenn", address: "noreply@wrenn.test" },
        to: [{ address: TO }],
        subject: mail.subject,
        text: expect.stringContaining(says),
      });
      const { headers = [], text = "", html = "" } = sunk?.mail ?? {};
      expect(headers.map(({ key }) => key).toSorted()).toEqual([
        ...["auto-submitted", "content-type", "date", "from", "message-id", "mime-version"],
        ...["subject", "to"],
      ]);
      expect(`${text}${html}`).not.toContain("http://evil");
      expect(html).not.toContain("<a href=x>");
    },
  );

  test("an address is one recipient, whatever it holds", async () => {
    await using sink = await MailSink.start();
    using smtp = open(sink);

    await smtp.deliver({ ...MAIL, to: "a@x.test, b@x.test" }).catch(() => {});
    await smtp.deliver({ ...MAIL, to: "a@x.test\r\nRCPT TO:<b@x.test>" }).catch(() => {});
    const to = sink.mails.flatMap(({ recipients }) => recipients);
    expect(to).not.toContain("b@x.test");
  });
});
