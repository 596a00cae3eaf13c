// Certificates of an authority that one test process has for itself, for programs that call each other in it.

import { AgentClients } from "../../cp/agents/agent-clients.ts";
import type { AgentCallOutcome } from "../../cp/agents/call-observer.ts";
import { Authority, KeyToCertify } from "../../cp/certificates/authority.ts";
import { OwnCertificate } from "../../cp/certificates/own-certificate.ts";
import { makeKeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { AGENTS_DOMAIN, CONTROL_PLANE_NAME } from "../../proto/certificates/names.ts";
import type { ServerTls, TlsIdentity } from "../../proto/http1/tls.ts";

const AUTHORITY_PEM = await Authority.make();
export const AUTHORITY = await Authority.open(AUTHORITY_PEM);

/** Of agents that no test tells from one another. */
export const AGENT_NAME = `any.${AGENTS_DOMAIN}`;

/** An agent's own, under that name; it trusts the tests' authority, whoever certifies it. */
export async function agentIdentity(name: string, by = AUTHORITY): Promise<TlsIdentity> {
  const { keyPem, requestPem } = await makeKeyAndRequest();
  const { certPem } = await by.signAgent(await KeyToCertify.parse(requestPem), name);
  return { certPem, keyPem, trustedPem: AUTHORITY.trustedPem };
}

export const AGENT_IDENTITY: TlsIdentity = await agentIdentity(AGENT_NAME);
export const CONTROL_PLANE = await OwnCertificate.make(AUTHORITY);

/** Clients of agents, as a control plane has them. */
export function agentClients(observe?: (call: AgentCallOutcome) => void): AgentClients {
  return new AgentClients(CONTROL_PLANE.current, observe);
}

/** What a control plane's program is given. */
export const AUTHORITY_SETTINGS = {
  WRENN_CA_CERT: AUTHORITY_PEM.certPem,
  WRENN_CA_KEY: AUTHORITY_PEM.keyPem,
};

/** As an agent listens. */
export const AGENT_TLS: ServerTls = {
  identity: () => AGENT_IDENTITY,
  admits: (name) => name === CONTROL_PLANE_NAME,
};
