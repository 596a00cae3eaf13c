// A certificate authority of the platform's own, and a wildcard certificate for its domain.

import { access, mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./run.ts";

/** Chrome and Apple refuse certificates that live longer than 825 days. */
const CERT_DAYS = 800;
const CA_DAYS = 3650;

export interface TlsPaths {
  readonly caCertFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

export function tlsPaths(dir: string): TlsPaths {
  const tls = join(dir, "tls");
  return {
    caCertFile: join(tls, "ca.pem"),
    certFile: join(tls, "cert.pem"),
    keyFile: join(tls, "key.pem"),
  };
}

/**
 * Makes what is missing below `<dir>/tls`: the authority's key and certificate, then the certificate
 * for the domain, everything one level below it, and localhost. What is there stays, so that a browser
 * that trusts the authority goes on doing so.
 */
export async function makeCertificates(dir: string, domain: string): Promise<void> {
  const paths = tlsPaths(dir);
  if (await exists(paths.certFile)) return;
  const tls = join(dir, "tls");
  await mkdir(tls, { recursive: true, mode: 0o755 });
  const at = (name: string) => join(tls, name);
  await run([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    ...["-nodes", "-keyout", at("ca-key.pem"), "-out", paths.caCertFile, "-days", String(CA_DAYS)],
    ...["-subj", "/CN=Wrenn development CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ...["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"],
  ]);
  await run([
    ...["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    ...["-nodes", "-keyout", paths.keyFile, "-out", at("cert.csr"), "-subj", `/CN=${domain}`],
  ]);
  const names = [domain, `*.${domain}`, "localhost"].map((name) => `DNS:${name}`);
  const extensions = [
    `subjectAltName=${[...names, "IP:127.0.0.1", "IP:::1"].join(",")}`,
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth",
  ];
  await writeFile(at("cert.ext"), `${extensions.join("\n")}\n`);
  await run([
    ...["openssl", "x509", "-req", "-in", at("cert.csr"), "-CA", paths.caCertFile],
    ...["-CAkey", at("ca-key.pem"), "-CAcreateserial", "-days", String(CERT_DAYS)],
    ...["-extfile", at("cert.ext"), "-out", at("cert.pem.new")],
  ]);
  // Last, so that an interrupted run begins anew.
  await rename(at("cert.pem.new"), paths.certFile);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
