// The program with a mail server: whoever signs up gets a mail, also when the server comes back only later.

import { expect, test } from "bun:test";
import { ControlPlane } from "../../tests/harness/control-plane.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { MailSink } from "../../tests/harness/mail-sink.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

const SETTINGS = {
  SMTP_HOST: "127.0.0.1",
  SMTP_USERNAME: "wrenn",
  SMTP_PASSWORD: "hidden-password-of-the-mail-server",
  SMTP_SECURITY: "none",
};
const CREDENTIALS = { username: SETTINGS.SMTP_USERNAME, password: SETTINGS.SMTP_PASSWORD };

test("who signs up while the mail server is away gets the mail when it is back", async () => {
  await using database = await cloneDatabase();
  const port = await freePort();
  await using program = await ControlPlane.start(database.url, {
    ...{ ...SETTINGS, SMTP_PORT: String(port) },
  });

  const email = "ada@example.com";
  const signedUp = await program.post("/v1/auth/signup", {
    email,
    password: "correct horse",
    name: "Ada",
  });
  await waitFor("a failure", () => program.log.includes("mail is delivered later"));
  await using sink = await MailSink.start({ port, credentials: CREDENTIALS });
  const [sunk] = await waitFor("the mail", () => sink.to(email), { holds: (m) => m.length > 0 });
  const token = /token=([0-9a-f]{32})/.exec(sunk?.mail.text ?? "")?.[1] ?? "";
  const activated = await program.post("/v1/auth/activate", { token });

  expect([signedUp.status, activated.status]).toEqual([201, 200]);
  expect(program.log).not.toContain(token);
  expect(program.log).not.toContain(SETTINGS.SMTP_PASSWORD);
  expect(program.log).not.toContain(email);
}, 60_000);

async function freePort(): Promise<number> {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
