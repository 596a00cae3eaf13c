// Who may connect to whom when both sides show certificates.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { Authority } from "../../cp/certificates/authority.ts";
import { OwnCertificate } from "../../cp/certificates/own-certificate.ts";
import { frontLimits } from "../../cp/front/limits.ts";
import { Front } from "../../proto/http1/listener.ts";
import type { TlsIdentity } from "../../proto/http1/tls.ts";
import { clientOptions } from "../../proto/http1/tls-wire.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import {
  AGENT_IDENTITY,
  AGENT_NAME,
  AGENT_TLS,
  agentIdentity,
  CONTROL_PLANE,
} from "../harness/test-certificates.ts";
import { waitFor } from "../harness/wait-for.ts";

const NAME = "other.agents.wrenn.internal";
/** Fewer than are refused in a test. */
const CONNECTIONS_MAX = 8;

let others: Authority;
let strangers: TlsIdentity;
let shown: TlsIdentity;
let front: Front;
let port: number;

beforeAll(async () => {
  others = await Authority.open(await Authority.make());
  strangers = (await OwnCertificate.make(others)).current();
});

beforeEach(() => {
  shown = AGENT_IDENTITY;
  front = new Front({
    limits: { ...frontLimits(4096), connectionsMax: CONNECTIONS_MAX },
    router: (request, { scheme }) => ({ status: 200, headers: [], body: scheme + request.target }),
    failed: (error) => {
      throw error;
    },
  });
  port = front.listen({
    ...{ hostname: "127.0.0.1", port: 0 },
    tls: { ...AGENT_TLS, identity: () => shown },
  });
});

afterEach(() => front.stop(0));

const sockets: Socket[] = [];
afterAll(() => {
  for (const socket of sockets) socket.destroy();
});

/** What a client that shows this gets of the server that is to have the name: by fetch, and by a pool. */
async function asked(identity: Partial<TlsIdentity>, serverName = AGENT_NAME): Promise<string[]> {
  const whole = { ...CONTROL_PLANE.current(), ...identity };
  const fetched = fetch(`https://127.0.0.1:${port}/x`, {
    tls: clientOptions({ identity: () => whole, serverName }),
  }).then(
    (response) => response.text(),
    () => "refused",
  );
  const pool = new UpstreamPool({
    address: { hostname: "127.0.0.1", port, tls: { identity: () => whole, serverName } },
    ...{ idleMax: 1, idleMs: 1000, connectionsMax: 1, retryAfterMs: [], isFickle: false },
    dialTimeoutMs: 5_000,
  });
  const dialled = await pool.dial();
  pool.close();
  return [await fetched, typeof dialled === "string" ? dialled : "connected"];
}

test("a control plane and the agent that it means find one another", async () => {
  expect(await asked({})).toEqual(["https/x", "connected"]);
});

// Whether a client's certificate is taken, the server of TLS 1.3 says after the client holds the handshake for over.
test.each<[string, () => Partial<TlsIdentity>]>([
  ["of another authority", () => ({ certPem: strangers.certPem, keyPem: strangers.keyPem })],
  ["an agent's", () => ({ certPem: AGENT_IDENTITY.certPem, keyPem: AGENT_IDENTITY.keyPem })],
])("a client whose certificate is %s gets no answer", async (_, identity) => {
  const [fetched] = await asked(identity());

  expect(fetched).toBe("refused");
});

test.each([
  ["TLSv1.2", "refused"],
  ["TLSv1.3", "secured"],
] as const)("a client that speaks %s at most is %s", async (maxVersion, expected) => {
  const { certPem: cert, keyPem: key, trustedPem: ca } = CONTROL_PLANE.current();
  const { promise, resolve } = Promise.withResolvers<string>();
  const options = { port, host: "127.0.0.1", cert, key, ca, servername: AGENT_NAME, maxVersion };
  const socket = tlsConnect(options, () => resolve("secured"));
  sockets.push(socket);
  socket.on("error", () => resolve("refused"));

  expect(await promise).toBe(expected);
});

test("a client without a certificate gets no answer", async () => {
  const { trustedPem: ca } = CONTROL_PLANE.current();
  const tls = { ca, serverName: AGENT_NAME };

  await expect(fetch(`https://127.0.0.1:${port}/x`, { tls })).rejects.toThrow();
  await expect(fetch(`http://127.0.0.1:${port}/x`)).rejects.toThrow();
});

test.each<[string, () => Promise<TlsIdentity>]>([
  ["has another name", () => agentIdentity(NAME)],
  ["is certified by another authority", () => agentIdentity(AGENT_NAME, others)],
])("a server that %s is not asked", async (_, identity) => {
  shown = await identity();

  expect(await asked({})).toEqual(["refused", "refused"]);
});

test("the next connection is shown the next certificate, and those that are open stay", async () => {
  const tls = { identity: CONTROL_PLANE.current, serverName: AGENT_NAME };
  const pool = new UpstreamPool({
    address: { hostname: "127.0.0.1", port, tls },
    ...{ idleMax: 1, idleMs: 60_000, connectionsMax: 1, retryAfterMs: [], isFickle: false },
    dialTimeoutMs: 5_000,
  });
  const open = await pool.dial();
  if (typeof open === "string") throw new Error(open);
  shown = await agentIdentity(NAME);

  const named = await asked({}, NAME);
  const answer = Promise.withResolvers<string>();
  open.wire.events = { ...open.wire.events, onData: (bytes) => answer.resolve(bytes.toString()) };
  open.wire.write(Buffer.from("GET /still HTTP/1.1\r\nHost: x\r\n\r\n"));

  expect(named).toEqual(["https/x", "connected"]);
  expect(await answer.promise).toEndWith("https/still");
  pool.close();
});

test("what never shows a certificate, or is refused for it, holds no place for long", async () => {
  const { certPem, keyPem } = strangers;
  for (let i = 0; i < 10; i++) await asked({ certPem, keyPem });
  const silent = connect({ port, host: "127.0.0.1" });
  sockets.push(silent);
  silent.on("error", () => {});
  await Bun.sleep(50);
  silent.destroy();

  const answers = await waitFor("a place", () => asked({}), {
    holds: (all) => !all.includes("refused"),
  });

  expect(answers).toEqual(["https/x", "connected"]);
});
