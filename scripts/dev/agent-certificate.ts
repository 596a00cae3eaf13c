// Calls of the platform's agent past its control plane: whoever has the secrets of the directory can make the
// certificates for it.

import { X509Certificate } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type AgentClient, AgentClients } from "../../cp/agents/agent-clients.ts";
import { Authority, KeyToCertify } from "../../cp/certificates/authority.ts";
import { OwnCertificate } from "../../cp/certificates/own-certificate.ts";
import { makeKeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { nameOf } from "../../proto/http1/tls.ts";
import type { Secrets } from "./settings.ts";

type AuthorityPem = Pick<Secrets, "caCertPem" | "caKeyPem">;

/** A client of the agent with its files in `agentDir`, at `address`. Throws if that agent has no certificate. */
export async function callAgent(
  secrets: AuthorityPem,
  { agentDir, address }: { agentDir: string; address: string },
): Promise<AgentClient> {
  const own = await OwnCertificate.make(await authorityOf(secrets));
  const { certName } = await certificateIn(agentDir);
  return new AgentClients(own.current).at({ id: null, address, certName });
}

/** Has the agent of the directory know itself by a certificate that is good now: it may have been away for long. */
export async function renewAgentCertificate(
  secrets: AuthorityPem,
  agentDir: string,
): Promise<void> {
  const authority = await authorityOf(secrets);
  const { path, file, certName } = await certificateIn(agentDir);
  const { keyPem: key_pem, requestPem } = await makeKeyAndRequest();
  const request = await KeyToCertify.parse(requestPem);
  const { certPem: cert_pem } = await authority.signAgent(request, certName);
  const renewed = { ...file, cert_pem, key_pem, ca_cert_pem: authority.trustedPem };
  await writeFile(`${path}.new`, JSON.stringify(renewed), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

function authorityOf({ caCertPem, caKeyPem }: AuthorityPem): Promise<Authority> {
  return Authority.open({ certPem: caCertPem, keyPem: caKeyPem });
}

async function certificateIn(agentDir: string) {
  const path = join(agentDir, "host-credentials.json");
  const file: Record<string, string> = JSON.parse(await readFile(path, "utf8"));
  const pem = file.cert_pem;
  const { subjectAltName } = pem === undefined ? {} : new X509Certificate(pem);
  const certName = nameOf({ subjectaltname: subjectAltName });
  if (certName === null) throw new Error(`${path} holds no certificate`);
  return { path, file, certName };
}
