// Requests to addresses that somebody named: where they lead, and what receivers can do to us.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Receiver } from "../../tests/harness/receiver.ts";
import { AddressGuard } from "../address-guard.ts";
import { Outbound, type OutboundDeps } from "./outbound.ts";

setDefaultTimeout(60_000);

const guard = new AddressGuard(["127.0.0.0/8"]);
const send = (url: string, deps: Partial<OutboundDeps> = {}) =>
  new Outbound({ guard, ...deps }).send({
    ...{ url, method: "POST", headers: { "X-Own": "1" }, body: "text" },
  });

describe("addresses", () => {
  const own = new AddressGuard([]);
  test.each([
    ...["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"],
    ...["0.0.0.0", "224.0.0.1", "255.255.255.255", "168.63.129.16", "198.51.100.1"],
    ...["::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::7f00:1", "fe80::1"],
    ...["fd00:ec2::254", "fc00::1", "ff02::1", "2002:7f00:1::", "2001:db8::1", "2001::1"],
    ...["localhost", "", "1.2.3"],
  ])("%s is refused", (address) => {
    expect(own.permits(address)).toBe(false);
  });

  test.each(["8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"])(
    "%s is let through",
    (address) => {
      expect(own.permits(address)).toBe(true);
    },
  );

  test("what is allowed is let through, mapped or not", () => {
    const allowing = new AddressGuard(["10.0.0.0/8", "fd00::/8"]);
    const told = ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "127.0.0.1"];
    expect(told.map((address) => allowing.permits(address))).toEqual([true, true, true, false]);
    expect(() => new AddressGuard(["10.0.0.0/33"])).toThrow("no network");
  });
});

// A name that leads elsewhere a moment later must gain nothing.
test("a name is asked for once, and what was looked at is where the request goes", async () => {
  await using receiver = new Receiver();
  const asked: string[] = [];
  const resolve = async (host: string) => {
    asked.push(host);
    return asked.length === 1 ? ["169.254.169.254", "127.0.0.1"] : ["10.0.0.1"];
  };
  const url = `http://hooks.test:${receiver.port}/a?b=c`;
  const answer = await send(url, { resolve });

  expect([answer.status, asked]).toEqual([200, ["hooks.test"]]);
  const [got] = receiver.got;
  expect([got?.path, got?.headers.get("host"), got?.headers.get("x-own")]).toEqual([
    ...["/a?b=c", `hooks.test:${receiver.port}`, "1"],
  ]);
  await expect(send(url, { resolve })).rejects.toThrow("the address is not allowed");
});

test("where nobody listens on one address the next is tried", async () => {
  await using receiver = new Receiver();
  const resolve = async () => ["127.0.0.2", "127.0.0.1"];

  expect((await send(`http://hooks.test:${receiver.port}/`, { resolve })).status).toBe(200);
});

test("a certificate must be that of the name, though the connection goes to an address", async () => {
  const dir = await mkdtemp(join(tmpdir(), "wrenn-outbound-"));
  const { key, cert } = await makeCertificate(dir, "hooks.test");
  await rm(dir, { recursive: true });
  await using receiver = new Receiver(undefined, { key, cert });
  const resolve = async () => ["127.0.0.1"];
  const to = (host: string, ca?: string) =>
    send(`https://${host}:${receiver.port}/`, { resolve, ...(ca === undefined ? {} : { ca }) });

  expect((await to("hooks.test", cert)).status).toBe(200);
  await expect(to("other.test", cert)).rejects.toThrow("ALTNAME_INVALID");
  await expect(to("hooks.test")).rejects.toThrow("SELF_SIGNED");
  expect(receiver.got).toHaveLength(1);
});

test("a redirect is an answer, and leads nowhere", async () => {
  await using elsewhere = new Receiver();
  await using receiver = new Receiver(() => Response.redirect(elsewhere.url, 307));

  expect((await send(receiver.url)).status).toBe(307);
  expect(elsewhere.got).toEqual([]);
});

test("of an answer of a gigabyte the beginning is read, also of one that unpacks to that", async () => {
  let sentBytes = 0;
  const endless = () =>
    new ReadableStream({
      pull(controller) {
        sentBytes += 65_536;
        if (sentBytes > 1024 ** 3) controller.close();
        else controller.enqueue(new Uint8Array(65_536));
      },
    });
  const packed = Bun.gzipSync(new Uint8Array(64 * 1024 ** 2));
  await using receiver = new Receiver(({ path }) =>
    path === "/packed"
      ? new Response(packed, { headers: { "content-encoding": "gzip" } })
      : new Response(endless()),
  );

  const answers = [await send(receiver.url), await send(`${receiver.url}/packed`)];

  expect(answers.map(({ text }) => Buffer.byteLength(text) <= 3 * 16 * 1024)).toEqual([true, true]);
  expect(sentBytes).toBeLessThan(64 * 1024 ** 2);
});

test("a receiver that hangs, or drips, has one time for everything; so has a name", async () => {
  const never = Promise.withResolvers<Response>();
  const drip = () =>
    new ReadableStream({
      async pull(controller) {
        await Bun.sleep(50);
        controller.enqueue(new Uint8Array(1));
      },
    });
  await using receiver = new Receiver(({ path }) =>
    path === "/drip" ? new Response(drip()) : never.promise,
  );
  const late = { timeoutMs: 400 };
  const resolve = () => new Promise<string[]>(() => {});

  await expect(send(`${receiver.url}/drip`, late)).rejects.toThrow("no answer in time");
  await expect(send(receiver.url, late)).rejects.toThrow("no answer in time");
  await expect(send("http://slow.test/", { ...late, resolve })).rejects.toThrow("in time");
  never.resolve(new Response());
});

async function makeCertificate(dir: string, name: string): Promise<{ key: string; cert: string }> {
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  const made = Bun.spawn(
    [
      ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
      ...["-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", `/CN=${name}`],
      ...["-addext", `subjectAltName=DNS:${name}`],
    ],
    { stdio: ["ignore", "ignore", "ignore"] },
  );
  if ((await made.exited) !== 0) throw new Error("openssl made no certificate");
  return { key: await readFile(key, "utf8"), cert: await readFile(cert, "utf8") };
}
