// The certificate authority of an installation: it signs the certificates of its agents and control planes, and
// nothing else. Whoever has its key can be any of them.

import { createHash, createPrivateKey } from "node:crypto";
import type * as x509 from "@peculiar/x509";
import { KEY_ALGORITHM, keyToPem } from "../../proto/certificates/key-and-request.ts";
import { CONTROL_PLANE_NAME } from "../../proto/certificates/names.ts";
import { CERTIFICATE_MS } from "../../proto/certificates/renewal.ts";
import { loadX509 } from "../../proto/certificates/x509.ts";

const {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} = await loadX509();

const YEAR_MS = 365 * 24 * 3600_000;
const AUTHORITY_MS = 10 * YEAR_MS;
/**
 * What is certified is good from long before it was made, since the clock of a host may be behind: nobody had it
 * then who could have used it.
 */
const BEHIND_MS = YEAR_MS;
/** RFC 5280, 4.1.2.2 allows 20 bytes; 16 of them random are no two certificates' own. */
const SERIAL_BYTES = 16;

export interface Certificate {
  readonly certPem: string;
  readonly expiresAt: Date;
  /** SHA-256 of it in DER, in hexadecimal. */
  readonly fingerprint: string;
}

export interface Pem {
  readonly certPem: string;
  readonly keyPem: string;
}

/** What was asked to be certified is no key that we certify; the message says what is wrong with it. */
export class BadRequest extends Error {
  override readonly name = "BadRequest";
}

/** A key that somebody has shown to have. */
export class KeyToCertify {
  readonly key: x509.PublicKey;
  /** SHA-256 of it in DER, in hexadecimal. */
  readonly fingerprint: string;

  private constructor(key: x509.PublicKey) {
    this.key = key;
    this.fingerprint = digestOf(key.rawData);
  }

  /** Of a request (PKCS #10 in PEM), of which nothing else is taken. Throws BadRequest. */
  static async parse(pem: string): Promise<KeyToCertify> {
    let request: x509.Pkcs10CertificateRequest;
    try {
      request = new Pkcs10CertificateRequest(pem);
    } catch {
      throw new BadRequest("no certificate request in PEM (PKCS #10)");
    }
    const asked: { name: string; namedCurve?: string } = request.publicKey.algorithm;
    if (asked.name !== KEY_ALGORITHM.name || asked.namedCurve !== KEY_ALGORITHM.namedCurve) {
      throw new BadRequest("its key is not of ECDSA with the curve P-256");
    }
    // Without it somebody could have the key of another certified as his own.
    if (!(await request.verify().catch(() => false))) {
      throw new BadRequest("its signature is wrong");
    }
    return new KeyToCertify(request.publicKey);
  }
}

export class Authority {
  /** What its agents and control planes trust: its own certificate, and those it is about to replace or was. */
  readonly trustedPem: string;
  readonly #certificate: x509.X509Certificate;
  readonly #key: CryptoKey;

  private constructor(trustedPem: string, certificate: x509.X509Certificate, key: CryptoKey) {
    this.trustedPem = trustedPem;
    this.#certificate = certificate;
    this.#key = key;
  }

  /**
   * `certPem` may hold several certificates, of which the one that belongs to the key signs. Throws a sentence
   * that says what is wrong with either.
   */
  static async open({ certPem, keyPem }: Pem): Promise<Authority> {
    const trusted = parseCertificates(certPem);
    const key = await parseKey(keyPem);
    const own = await findOwner(trusted, key);
    if (own === undefined) throw new Error("none of the certificates belongs to the key");
    const constraints = own.getExtension(BasicConstraintsExtension);
    if (constraints?.ca !== true) throw new Error("the certificate is no authority's (CA:TRUE)");
    if (own.notAfter.getTime() < Date.now()) {
      throw new Error(`the certificate expired on ${own.notAfter.toISOString()}`);
    }
    return new Authority(trusted.map((one) => one.toString("pem")).join("\n"), own, key);
  }

  /** A new one for an installation, good for ten years. */
  static async make(): Promise<Pem> {
    const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: newSerial(),
      name: "CN=Wrenn installation",
      keys,
      signingAlgorithm: KEY_ALGORITHM,
      notBefore: new Date(Date.now() - BEHIND_MS),
      notAfter: new Date(Date.now() + AUTHORITY_MS),
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return { certPem: certificate.toString("pem"), keyPem: await keyToPem(keys.privateKey) };
  }

  /** An agent's certificate under that name. */
  async signAgent({ key }: KeyToCertify, name: string): Promise<Certificate> {
    return await this.#sign(key, name, ExtendedKeyUsage.serverAuth);
  }

  /** A key and certificate with which a control plane calls agents. */
  async makeControlPlane(): Promise<Certificate & { readonly keyPem: string }> {
    const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
    const purpose = ExtendedKeyUsage.clientAuth;
    const certificate = await this.#sign(keys.publicKey, CONTROL_PLANE_NAME, purpose);
    return { ...certificate, keyPem: await keyToPem(keys.privateKey) };
  }

  async #sign(
    publicKey: CryptoKey | x509.PublicKey,
    name: string,
    purpose: x509.ExtendedKeyUsage,
  ): Promise<Certificate> {
    const certificate = await X509CertificateGenerator.create({
      serialNumber: newSerial(),
      issuer: this.#certificate.subject,
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: KEY_ALGORITHM,
      notBefore: this.#certificate.notBefore,
      notAfter: new Date(
        Math.min(Date.now() + CERTIFICATE_MS, this.#certificate.notAfter.getTime()),
      ),
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([purpose]),
        // Critical, for the subject is empty (RFC 5280, 4.2.1.6).
        new SubjectAlternativeNameExtension([{ type: "dns", value: name }], true),
        await AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
      ],
    });
    return {
      certPem: certificate.toString("pem"),
      expiresAt: certificate.notAfter,
      fingerprint: digestOf(certificate.rawData),
    };
  }
}

function digestOf(der: ArrayBuffer): string {
  return createHash("sha256").update(new Uint8Array(der)).digest("hex");
}

/** Positive, as RFC 5280 has it. */
function newSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(SERIAL_BYTES));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toHex();
}

function parseCertificates(pem: string): x509.X509Certificate[] {
  try {
    const blocks = PemConverter.decodeWithHeaders(pem);
    const found = blocks.filter(({ type }) => type === "CERTIFICATE");
    if (found.length > 0) return found.map(({ rawData }) => new X509Certificate(rawData));
  } catch {}
  throw new Error("it holds no certificate in PEM");
}

/** PKCS #8, or SEC1 as `openssl ecparam` writes it. */
async function parseKey(pem: string): Promise<CryptoKey> {
  try {
    const der = createPrivateKey(pem).export({ type: "pkcs8", format: "der" });
    return await crypto.subtle.importKey("pkcs8", new Uint8Array(der), KEY_ALGORITHM, true, [
      "sign",
    ]);
  } catch {
    throw new Error("the key is no ECDSA key of the curve P-256 in PEM");
  }
}

/** The certificate whose key's other half this is. */
async function findOwner(
  certificates: readonly x509.X509Certificate[],
  key: CryptoKey,
): Promise<x509.X509Certificate | undefined> {
  const probe = crypto.getRandomValues(new Uint8Array(32));
  const signature = await crypto.subtle.sign(KEY_ALGORITHM, key, probe);
  for (const certificate of certificates) {
    const publicKey = await certificate.publicKey
      .export(KEY_ALGORITHM, ["verify"])
      .catch(() => null);
    if (publicKey === null) continue;
    if (await crypto.subtle.verify(KEY_ALGORITHM, publicKey, signature, probe)) return certificate;
  }
  return undefined;
}
