// What the agent proves itself with to the control plane, kept in one file.

import { X509Certificate } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { KeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { isDueAnyway } from "../../proto/certificates/renewal.ts";
import type { TlsIdentity } from "../../proto/http1/tls.ts";
import type { ControlPlane } from "./control-plane.ts";

const FILE = "host-credentials.json";

const text = Type.String({ minLength: 1, maxLength: 64 * 1024 });
const HostCredentials = Type.Object({
  /** Prefixed form: host-… */
  host_id: Type.String({ pattern: "^host-[0-9a-z]{25}$" }),
  jwt: text,
  refresh_token: text,
  cert_pem: text,
  key_pem: text,
  ca_cert_pem: text,
});
export type HostCredentials = Static<typeof HostCredentials>;

const File = Type.Composite([
  // An agent of the time before certificates has its tokens only.
  Type.Partial(HostCredentials),
  Type.Pick(HostCredentials, ["host_id", "jwt", "refresh_token"]),
  Type.Object({
    /** The key that the next certificate was asked for, and how: a lost answer is asked for again with the same. */
    asked: Type.Optional(Type.Object({ key_pem: text, csr: text })),
    /** SHA-256 of the one-time token that they came from. */
    registered_with: Type.Optional(text),
  }),
]);
type File = Static<typeof File>;

/** The credentials of this host, those on disk always the newest. */
export class OwnCredentials {
  readonly #dir: string;
  #file: File;
  /** By the monotonic clock; null: an earlier process did. */
  #gotAtMs: number | null = null;

  private constructor(dir: string, file: File) {
    this.#dir = dir;
    this.#file = file;
  }

  /** Null if the agent has never registered. Throws if the file is not what an agent writes. */
  static async load(dir: string): Promise<OwnCredentials | null> {
    const path = join(dir, FILE);
    const json = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null;
      throw error;
    });
    if (json === null) return null;
    try {
      return new OwnCredentials(dir, Value.Parse(File, JSON.parse(json)));
    } catch (cause) {
      throw new Error(`${path} holds no credentials; register the host again`, { cause });
    }
  }

  /** Those of a registration with that token, on disk. */
  static async save(
    dir: string,
    credentials: HostCredentials,
    token: string,
  ): Promise<OwnCredentials> {
    const file = { ...credentials, registered_with: sha256(token) };
    await writeWhole(dir, file);
    return new OwnCredentials(dir, file);
  }

  /** Whether a registration with this very token was the last one: it is good for nothing any more. */
  cameFrom(token: string): boolean {
    return this.#file.registered_with === sha256(token);
  }

  get hostId(): string {
    return this.#file.host_id;
  }

  get hasCertificate(): boolean {
    return this.#file.cert_pem !== undefined;
  }

  get jwt(): string {
    return this.#file.jwt;
  }

  /** What callers are shown. Throws before there is a certificate. */
  readonly identity = (): TlsIdentity => {
    const { cert_pem: certPem, key_pem: keyPem, ca_cert_pem: trustedPem } = this.#file;
    if (certPem === undefined || keyPem === undefined || trustedPem === undefined) {
      throw new Error("unreachable: an agent that serves has a certificate");
    }
    return { certPem, keyPem, trustedPem };
  };

  /** Whether it is time for the next certificate. */
  isDue(now: Date = new Date()): boolean {
    const { validToDate } = new X509Certificate(this.identity().certPem);
    const ageMs = this.#gotAtMs === null ? null : performance.now() - this.#gotAtMs;
    return isDueAnyway(validToDate, now, ageMs);
  }

  /**
   * Trades the refresh token for the next credentials. What is asked for is on disk before it is: an agent that
   * dies before it has the answer asks for the same again. Throws what the control plane's call throws.
   */
  async renew(controlPlane: ControlPlane): Promise<void> {
    this.#file = { ...this.#file, asked: this.#file.asked ?? (await askedAnew()) };
    await writeWhole(this.#dir, this.#file);
    const { asked, refresh_token, registered_with } = this.#file;
    if (asked === undefined) throw new Error("unreachable: it was set above");
    const next = await controlPlane.refresh(refresh_token, asked.csr);
    const from = registered_with === undefined ? {} : { registered_with };
    this.#file = { ...next, key_pem: asked.key_pem, ...from };
    this.#gotAtMs = performance.now();
    await writeWhole(this.#dir, this.#file);
  }

  /**
   * The control plane has deleted this host: they are kept beside it, for whoever wants to know which one it was.
   * The capsules stay, and a host that registers again brings them along.
   */
  async retire(): Promise<void> {
    await rename(join(this.#dir, FILE), join(this.#dir, `${FILE}.deleted`));
  }
}

function sha256(token: string): string {
  return new Bun.CryptoHasher("sha256").update(token).digest("hex");
}

async function askedAnew(): Promise<NonNullable<File["asked"]>> {
  const { keyPem, requestPem } = await makeKey();
  return { key_pem: keyPem, csr: requestPem };
}

/** Loaded when it is needed: it takes a tenth of the time that an agent takes to be there again. */
export async function makeKey(): Promise<KeyAndRequest> {
  const { makeKeyAndRequest } = await import("../../proto/certificates/key-and-request.ts");
  return await makeKeyAndRequest();
}

/** Replaces the file as a whole, synced: a refresh token that was used up is worth nothing. */
async function writeWhole(dir: string, file: File): Promise<void> {
  const path = join(dir, FILE);
  const aside = `${path}.new`;
  await rm(aside, { force: true });
  {
    await using handle = await open(aside, "wx", 0o600);
    await handle.writeFile(JSON.stringify(file));
    await handle.sync();
  }
  await rename(aside, path);
  await using parent = await open(dirname(path));
  await parent.sync();
}
