// Mails on their way: each arrives, whatever happens to the mail server, to us, and to the transaction around it.

import { expect, test } from "bun:test";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { dieAt } from "../../tests/harness/dying-transaction.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { MailSink } from "../../tests/harness/mail-sink.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { createLog } from "../log.ts";
import { activationMail } from "./messages.ts";
import { Outbox } from "./outbox.ts";
import { CONNECTIONS_MAX, openSmtp } from "./smtp.ts";

const database = await forThisFile(cloneDatabase());
const { db, sql } = database;
const ENDING = new AbortController().signal;

const mailTo = (to: string) =>
  activationMail({ to, name: "Ada", publicUrl: "http://w.test", token: "5ec7e7", lifeSec: 1800 });

/** One that delivers to the port, and what it logs. */
function openOutbox(port: number, encryptionKey = new Uint8Array(32)) {
  const logged: string[] = [];
  const smtp = openSmtp(
    {
      ...{ host: "127.0.0.1", port, username: "", password: "", security: "none" },
      ...{ fromEmail: "noreply@wrenn.test", caFile: null },
    },
    null,
  );
  const log = createLog("debug", (line) => logged.push(line));
  const outbox = new Outbox({ db, smtp, encryptionKey, log });
  return Object.assign(outbox, { logged, [Symbol.dispose]: () => smtp.close() });
}

const rows = () => sql`select id, sealed, attempts from outgoing_mails`;
const makeDue = () => sql`update outgoing_mails set next_attempt_at = now()`;
const empty = () => sql`delete from outgoing_mails`;

test("a mail arrives once, and of a transaction that fails none does", async () => {
  await using sink = await MailSink.start();
  using outbox = openOutbox(sink.port);

  await db.transaction((tx) => outbox.send(mailTo("done@x.test"), tx));
  await db
    .transaction(async (tx) => {
      await outbox.send(mailTo("undone@x.test"), tx);
      throw new Error("as a test wants it");
    })
    .catch(() => {});
  const first = await outbox.deliver(ENDING);
  const second = await outbox.deliver(ENDING);

  expect(first).toEqual({ delivered: 1, postponed: 0, dropped: 0 });
  expect(second).toEqual({ delivered: 0, postponed: 0, dropped: 0 });
  expect(sink.mails.flatMap(({ recipients }) => recipients)).toEqual(["done@x.test"]);
  expect(await rows()).toHaveLength(0);
});

test("a mail waits for a server that is away, and nobody reads it meanwhile", async () => {
  const port = await freePort();
  using outbox = openOutbox(port);
  await outbox.send(mailTo("later@x.test"), db);

  const away = await outbox.deliver(ENDING);
  const atOnce = await outbox.deliver(ENDING);
  const [row] = await rows();
  await using sink = await MailSink.start({ port });
  await makeDue();
  const back = await outbox.deliver(ENDING);

  expect(away).toMatchObject({ postponed: 1 });
  expect(atOnce).toMatchObject({ postponed: 0 });
  const sealed = Buffer.from(String(row?.sealed), "base64").toString("latin1");
  expect(sealed).not.toContain("5ec7e7");
  expect(sealed).not.toContain("later@x.test");
  expect(outbox.logged.join("\n")).toContain("mail is delivered later");
  expect(outbox.logged.join("\n")).not.toContain("5ec7e7");
  expect(back).toMatchObject({ delivered: 1 });
  expect(sink.to("later@x.test")[0]?.mail.text).toContain("token=5ec7e7");
});

test("while the server is away a pass asks it once, with pauses that grow", async () => {
  using outbox = openOutbox(await freePort());
  const COUNT = 12;
  for (let i = 0; i < COUNT; i += 1) await outbox.send(mailTo(`p${i}@x.test`), db);
  const first = await outbox.deliver(ENDING);
  await sql`delete from outgoing_mails where attempts = 0`;
  const pauses: number[] = [];
  for (const before of [0, 3, 20]) {
    await sql`update outgoing_mails set next_attempt_at = now(), attempts = ${before}`;
    await outbox.deliver(ENDING);
    const [row] = await sql<{ sec: number }[]>`
      select extract(epoch from max(next_attempt_at) - now())::float8 as sec from outgoing_mails`;
    pauses.push(row?.sec ?? 0);
  }
  await empty();

  expect(first).toEqual({ delivered: 0, postponed: CONNECTIONS_MAX, dropped: 0 });
  for (const [i, sec] of [5, 40, 900].entries()) expect(pauses[i]).toBeWithin(sec / 2, sec + 1);
});

test("of several control planes one delivers each mail", async () => {
  await using sink = await MailSink.start();
  using one = openOutbox(sink.port);
  using other = openOutbox(sink.port);
  const addresses = Array.from({ length: 40 }, (_, i) => `p${i}@x.test`);
  for (const address of addresses) await one.send(mailTo(address), db);

  await Promise.all([one, other, one].map((outbox) => outbox.deliver(ENDING)));
  const arrived = sink.mails.flatMap(({ recipients }) => recipients);
  expect(arrived.toSorted()).toEqual(addresses.toSorted());
});

test("a mail of a control plane that died is delivered by another, under the same Message-ID", async () => {
  const taken = Promise.withResolvers<void>();
  const never = Promise.withResolvers<void>();
  await using deaf = await MailSink.start({
    hold: (mail) => {
      ids.push(String(mail.mail.messageId));
      taken.resolve();
      return never.promise;
    },
  });
  const ids: string[] = [];
  using dying = openOutbox(deaf.port);
  await dying.send(mailTo("twice@x.test"), db);
  const lost = dying.deliver(ENDING);
  await taken.promise;

  await using sink = await MailSink.start();
  using other = openOutbox(sink.port);
  const meanwhile = await other.deliver(ENDING);
  await makeDue();
  const later = await other.deliver(ENDING);
  never.resolve();
  await lost;

  expect(meanwhile).toMatchObject({ delivered: 0 });
  expect(later).toMatchObject({ delivered: 1 });
  expect(sink.mails.map(({ mail }) => mail.messageId)).toEqual(ids);
});

test("a mail that the server took is delivered again when its row could not be removed", async () => {
  await using sink = await MailSink.start();
  using dying = openOutbox(sink.port);
  using other = openOutbox(sink.port);
  await dying.send(mailTo("again@x.test"), db);
  const killing = await dieAt(sql, { table: "outgoing_mails", does: "delete" });
  const died = await dying.deliver(ENDING).catch(() => "died");
  await killing[Symbol.asyncDispose]();

  const atOnce = await other.deliver(ENDING);
  await makeDue();
  const later = await other.deliver(ENDING);

  expect([died, atOnce.delivered, later.delivered]).toEqual(["died", 0, 1]);
  const ids = sink.to("again@x.test").map(({ mail }) => mail.messageId);
  expect(ids).toEqual([expect.stringContaining("@"), ids[0]]);
  expect(await rows()).toHaveLength(0);
});

test("what the server refuses for good, and what is too old, is dropped, and the log says so", async () => {
  await using sink = await MailSink.start({ refuse: () => ({ code: 550, text: "no such user" }) });
  using outbox = openOutbox(sink.port);
  await outbox.send(mailTo("gone@x.test"), db);
  const refused = await outbox.deliver(ENDING);
  await outbox.send(mailTo("old@x.test"), db);
  await sql`update outgoing_mails set expires_at = now()`;
  const old = await outbox.deliver(ENDING);

  expect([refused, old]).toEqual([
    { delivered: 0, postponed: 0, dropped: 1 },
    { delivered: 0, postponed: 0, dropped: 1 },
  ]);
  expect(outbox.logged.map((line) => JSON.parse(line).message)).toEqual([
    "mail was refused for good",
    "mail was not delivered in time, and is of no use any more",
  ]);
});

test("a mail of another key is left alone until it is too old, and holds up no other", async () => {
  await using sink = await MailSink.start();
  using before = openOutbox(sink.port, new Uint8Array(32).fill(1));
  using outbox = openOutbox(sink.port);
  await before.send(mailTo("sealed@x.test"), db);
  await outbox.send(mailTo("open@x.test"), db);

  expect(await outbox.deliver(ENDING)).toMatchObject({ delivered: 1, postponed: 1 });
  expect(sink.mails.flatMap(({ recipients }) => recipients)).toEqual(["open@x.test"]);
  expect(await rows()).toHaveLength(1);
  await empty();
});

test("a pass that must end waits for no server that is silent", async () => {
  const never = Promise.withResolvers<void>();
  await using sink = await MailSink.start({ hold: () => never.promise });
  using outbox = openOutbox(sink.port);
  await outbox.send(mailTo("silent@x.test"), db);
  const ending = new AbortController();
  const pass = outbox.deliver(ending.signal);
  await waitFor("a delivery", async () => (await attempts()) > 0);

  const abortedAtMs = performance.now();
  ending.abort();
  expect(await pass).toMatchObject({ postponed: 1 });
  // Of a silent server the client itself thinks so after 30 s.
  expect(performance.now() - abortedAtMs).toBeLessThan(20_000);
  never.resolve();
  await empty();
});

async function attempts(): Promise<number> {
  const [row] = await rows();
  return Number(row?.attempts ?? 0);
}

async function freePort(): Promise<number> {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
