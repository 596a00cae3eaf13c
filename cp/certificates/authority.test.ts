import { describe, expect, test } from "bun:test";
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { makeKeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { Authority, BadRequest, KeyToCertify } from "./authority.ts";
import { OwnCertificate } from "./own-certificate.ts";

const pem = await Authority.make();
const authority = await Authority.open(pem);
const HOUR_MS = 3600_000;

async function agentCertificate(by = authority): Promise<X509Certificate> {
  const { requestPem } = await makeKeyAndRequest();
  const { certPem } = await by.signAgent(await KeyToCertify.parse(requestPem), "a.test");
  return new X509Certificate(certPem);
}

describe("a certificate", () => {
  test("of an agent is a server's with one name, for a day, of the key that was asked for", async () => {
    const { keyPem, requestPem } = await makeKeyAndRequest();
    const signed = await authority.signAgent(await KeyToCertify.parse(requestPem), "a.test");
    const certificate = new X509Certificate(signed.certPem);
    const lifeMs = certificate.validToDate.getTime() - Date.now();

    expect(certificate.checkIssued(new X509Certificate(pem.certPem))).toBe(true);
    expect(certificate.verify(new X509Certificate(pem.certPem).publicKey)).toBe(true);
    expect(certificate.checkPrivateKey(createPrivateKey(keyPem))).toBe(true);
    expect([certificate.subjectAltName, certificate.ca]).toEqual(["DNS:a.test", false]);
    // serverAuth alone (RFC 5280, 4.2.1.12): nobody is called with it.
    expect(certificate.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1"]);
    expect(Math.round(lifeMs / HOUR_MS)).toBe(24);
    // A host whose clock is a month behind takes it.
    expect(certificate.validFromDate.getTime()).toBeLessThan(Date.now() - 40 * 24 * HOUR_MS);
    expect(signed.expiresAt).toEqual(certificate.validToDate);
    expect(signed.fingerprint).toBe(certificate.fingerprint256.replaceAll(":", "").toLowerCase());
  });

  test("of a control plane is a client's", async () => {
    const { certPem, keyPem } = await authority.makeControlPlane();
    const certificate = new X509Certificate(certPem);

    expect(certificate.checkPrivateKey(createPrivateKey(keyPem))).toBe(true);
    expect(certificate.subjectAltName).toBe("DNS:cp.wrenn.internal");
    expect(certificate.keyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]);
  });

  test("has a number that no other has", async () => {
    const numbers = await Promise.all(
      Array.from({ length: 20 }, async () => (await agentCertificate()).serialNumber),
    );

    expect(new Set(numbers).size).toBe(20);
    expect(numbers.filter((number) => !/^[4-7][0-9A-F]{31}$/.test(number))).toEqual([]);
  });

  test("of a control plane is renewed when half its life is over, or its clock went back", async () => {
    const own = await OwnCertificate.make(authority);
    const first = own.current();
    const inHours = (hours: number) => new Date(Date.now() + hours * HOUR_MS);

    const early = [await own.renew(inHours(0)), await own.renew(inHours(11))];
    const isSame = own.current() === first;
    const late = [await own.renew(inHours(13)), await own.renew(inHours(-2))];

    expect([early, isSame, late]).toEqual([[false, false], true, [true, true]]);
    expect(own.current().certPem).not.toBe(first.certPem);
  });
});

describe("what asks to be certified", () => {
  const tampered = async () => {
    const { requestPem } = await makeKeyAndRequest();
    const other = await makeKeyAndRequest();
    const bytes = (text: string) => Buffer.from(text.replace(/-----[^-]+-----|\s/g, ""), "base64");
    // The signature, at the end, is another one's.
    const [mine, theirs] = [bytes(requestPem), bytes(other.requestPem)];
    const mixed = Buffer.concat([mine.subarray(0, mine.length - 32), theirs.subarray(-32)]);
    return `-----BEGIN CERTIFICATE REQUEST-----\n${mixed.toString("base64")}\n-----END CERTIFICATE REQUEST-----`;
  };

  test.each<[string, () => Promise<string> | string, string]>([
    ["nothing", () => "", "no certificate request"],
    ["no PEM", () => "nonsense", "no certificate request"],
    ["a certificate", () => pem.certPem, "no certificate request"],
    ["a key", () => pem.keyPem, "no certificate request"],
    ["another one's signature", tampered, "its signature is wrong"],
  ])("is refused when it is %s", async (_, request, reason) => {
    const parsed = KeyToCertify.parse(await request());

    await expect(parsed).rejects.toThrow(BadRequest);
    await expect(KeyToCertify.parse(await request())).rejects.toThrow(reason);
  });

  test("has the same fingerprint whenever it asks for the same key", async () => {
    const { requestPem } = await makeKeyAndRequest();
    const other = await makeKeyAndRequest();
    const prints = await Promise.all(
      [requestPem, requestPem, other.requestPem].map(
        async (text) => (await KeyToCertify.parse(text)).fingerprint,
      ),
    );

    expect(prints[0]).toBe(String(prints[1]));
    expect(prints[0]).not.toBe(String(prints[2]));
  });
});

describe("an authority", () => {
  test("signs with the certificate of its key, and trusts the others beside it", async () => {
    const next = await Authority.make();
    const bundle = `${next.certPem}\n${pem.certPem}`;
    const changing = await Authority.open({ certPem: bundle, keyPem: pem.keyPem });

    const certificate = await agentCertificate(changing);

    expect(certificate.verify(new X509Certificate(pem.certPem).publicKey)).toBe(true);
    expect(changing.trustedPem.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  });

  test.each<[string, () => Promise<{ certPem: string; keyPem: string }>, string]>([
    ["no certificate", async () => ({ ...pem, certPem: "x" }), "holds no certificate"],
    ["no key", async () => ({ ...pem, keyPem: "x" }), "is no ECDSA key"],
    [
      "a key of another kind",
      async () => {
        const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
        const keyPem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
        return { ...pem, keyPem };
      },
      "is no ECDSA key",
    ],
    [
      "another one's key",
      async () => ({ ...pem, keyPem: (await Authority.make()).keyPem }),
      "none of the certificates belongs to the key",
    ],
    [
      "no authority's certificate",
      async () => {
        const { certPem, keyPem } = await authority.makeControlPlane();
        return { certPem, keyPem };
      },
      "is no authority's",
    ],
  ])("is refused that is %s", async (_, files, reason) => {
    await expect(Authority.open(await files())).rejects.toThrow(reason);
  });
});
