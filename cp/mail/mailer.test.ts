import { expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../clock.ts";
import { createLog } from "../log.ts";
import { createFileMailer, createNullMailer, createSmtpMailer } from "./mailer.ts";
import { activationMail, teamCreatedMail } from "./messages.ts";

const MAIL = activationMail({
  to: "ada@example.com",
  name: "<b>Ada</b>",
  publicUrl: "http://wrenn.test",
  token: "00",
});

test("a mail without a server is a file that only its owner reads, there when send resolves", async () => {
  const dir = await mkdtemp(join(tmpdir(), "wrenn-mailer-"));
  const mailer = createFileMailer({ dir: join(dir, "mail"), clock: systemClock });

  await mailer.send(MAIL);
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

test("a mail by SMTP carries both texts, and close waits for it", async () => {
  await using server = startSmtpServer();
  const lines: string[] = [];
  const mailer = createSmtpMailer(
    settings(server.port),
    createLog("info", (l) => lines.push(l)),
  );

  await mailer.send(MAIL);
  await mailer.close();

  expect(lines).toEqual([]);
  expect(server.received).toContain("From: Wrenn <noreply@wrenn.test>");
  expect(server.received).toContain("To: ada@example.com");
  expect(server.received).toContain("Content-Type: text/plain");
  expect(server.received).toContain("Content-Type: text/html");
});

test("a mail that can't be delivered is a line in the log, without its text", async () => {
  const lines: string[] = [];
  const mailer = createSmtpMailer(
    settings(1),
    createLog("info", (line) => lines.push(line)),
  );

  await mailer.send(MAIL);
  await mailer.close();

  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("mail was not delivered");
  expect(lines[0]).not.toContain("token=00");
});

test("without any way to send mail, each one is a warning without its text", async () => {
  const lines: string[] = [];

  await createNullMailer(createLog("info", (line) => lines.push(line))).send(MAIL);
  expect(lines[0]).toContain('"level":"warn"');
  expect(lines[0]).not.toContain("token=00");
});

function settings(port: number) {
  const fromEmail = "noreply@wrenn.test";
  return { host: "127.0.0.1", port, username: "", password: "", fromEmail };
}

/** As much of SMTP as one mail needs. */
function startSmtpServer() {
  let received = "";
  let isData = false;
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => {
        socket.write("220 test\r\n");
      },
      data: (socket, bytes) => {
        const text = bytes.toString();
        received += text;
        if (isData) {
          if (!received.endsWith("\r\n.\r\n")) return;
          isData = false;
          socket.write("250 accepted\r\n");
        } else if (text.startsWith("DATA")) {
          isData = true;
          socket.write("354 go on\r\n");
        } else {
          socket.write(text.startsWith("QUIT") ? "221 bye\r\n" : "250 ok\r\n");
        }
      },
    },
  });
  return {
    port: listener.port,
    get received() {
      return received;
    },
    async [Symbol.asyncDispose]() {
      listener.stop(true);
    },
  };
}
