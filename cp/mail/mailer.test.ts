import { expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../clock.ts";
import type { Queryable } from "../db/client.ts";
import { createLog } from "../log.ts";
import { createFileMailer, createNullMailer } from "./mailer.ts";
import { activationMail, teamCreatedMail } from "./messages.ts";

const MAIL = activationMail({
  to: "ada@example.com",
  name: "<b>Ada</b>",
  publicUrl: "http://wrenn.test",
  token: "00",
  lifeSec: 1800,
});
/** Files and nothing have no transactions. */
const NO_DB = {} as Queryable;

test("a mail without a server is a file that only its owner reads, there when send resolves", async () => {
  const dir = await mkdtemp(join(tmpdir(), "wrenn-mailer-"));
  const mailer = createFileMailer({ dir: join(dir, "mail"), clock: systemClock });

  await mailer.send(MAIL, NO_DB);
  const files = await readdir(join(dir, "mail"));
  const path = join(dir, "mail", files[0] ?? "");
  const text = await readFile(path, "utf8");
  const { mode } = await stat(path);
  await rm(dir, { recursive: true });

  expect(files).toHaveLength(1);
  expect(text).toStartWith("To: ada@example.com\nSubject: Activate your Wrenn account\n\n");
  expect(text).toContain("http://wrenn.test/activate?token=00");
  expect(mode & 0o777).toBe(0o600);
});

test("a name can't write HTML into a mail", () => {
  expect(MAIL.html).toContain("&lt;b&gt;Ada&lt;/b&gt;");
  expect(MAIL.html).toContain('<a href="http://wrenn.test/activate?token=00">');
});

test.each([
  ["http://evil.test/x", "http: //evil. test/x"],
  ["www.evil.test", "www. evil. test"],
  ["ada@evil.test", "ada@ evil. test"],
  ["Ada\r\nBcc: all@evil.test", "Ada Bcc: all@ evil. test"],
  ["Ada\u202egnp", "Ada gnp"],
  ["J. R. Smith-Jones", "J. R. Smith-Jones"],
])("a name that somebody chose is no link in a mail: %j", (name, shown) => {
  const mail = teamCreatedMail({ to: "ada@example.com", name, teamName: name });

  expect(mail.text).toStartWith(`Hello ${shown},\n`);
  expect(mail.subject).toBe(`Team ${shown} was created`);
});

test("without any way to send mail, each one is a warning without its text", async () => {
  const lines: string[] = [];

  await createNullMailer(createLog("info", (line) => lines.push(line))).send(MAIL, NO_DB);
  expect(lines[0]).toContain('"level":"warn"');
  expect(lines[0]).not.toContain("token=00");
});
