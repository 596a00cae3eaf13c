// The program with a mail server: whoever signs up gets a mail, also when the server comes back only later.

import { expect, test } from "bun:test";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { MailSink } from "../../tests/harness/mail-sink.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

const SETTINGS = {
  JWT_SECRET: "a secret for tests of at least 32 characters",
  WRENN_ENCRYPTION_KEY: "0f".repeat(32),
  WRENN_CP_LISTEN_ADDR: "127.0.0.1:0",
  SMTP_HOST: "127.0.0.1",
  SMTP_USERNAME: "wrenn",
  SMTP_PASSWORD: "hidden-password-of-the-mail-server",
  SMTP_SECURITY: "none",
};
const CREDENTIALS = { username: SETTINGS.SMTP_USERNAME, password: SETTINGS.SMTP_PASSWORD };

test("who signs up while the mail server is away gets the mail when it is back", async () => {
  await using database = await cloneDatabase();
  const port = await freePort();
  await using program = await startProgram(database.url, port);

  const email = "ada@example.com";
  const signedUp = await program.post("signup", { email, password: "correct horse", name: "Ada" });
  await waitFor("a failure", () => program.log().includes("mail is delivered later"));
  await using sink = await MailSink.start({ port, credentials: CREDENTIALS });
  const [sunk] = await waitFor("the mail", () => sink.to(email), { holds: (m) => m.length > 0 });
  const token = /token=([0-9a-f]{32})/.exec(sunk?.mail.text ?? "")?.[1] ?? "";
  const activated = await program.post("activate", { token });

  expect([signedUp.status, activated.status]).toEqual([201, 200]);
  expect(program.log()).not.toContain(token);
  expect(program.log()).not.toContain(SETTINGS.SMTP_PASSWORD);
  expect(program.log()).not.toContain(email);
}, 60_000);

async function startProgram(databaseUrl: string, smtpPort: number) {
  const { PATH = "", REDIS_URL = "" } = process.env;
  const program = Bun.spawn([process.execPath, `${import.meta.dir}/../main.ts`], {
    env: {
      ...{ PATH, REDIS_URL, DATABASE_URL: databaseUrl, SMTP_PORT: String(smtpPort), ...SETTINGS },
    },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  let text = "";
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of program.stderr) text += decoder.decode(chunk, { stream: true });
  })();
  const line = await waitFor("the address", () => /^.*"listening".*$/m.exec(text)?.[0]);
  const { url } = JSON.parse(String(line));
  return {
    log: () => text,
    post: (route: string, body: object) =>
      fetch(`${url}/v1/auth/${route}`, { method: "POST", body: JSON.stringify(body) }),
    async [Symbol.asyncDispose]() {
      program.kill();
      await program.exited;
      await reading;
    },
  };
}

async function freePort(): Promise<number> {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
