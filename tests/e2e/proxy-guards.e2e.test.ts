// Ports of a real capsule: what must not pass, what is refused how, and what hostile servers can do.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { EnvdTokens } from "../../cp/capsules/envd-tokens.ts";
import { decodeId } from "../../proto/ids.ts";
import type { Platform } from "../../scripts/dev/settings.ts";
import { agentClient } from "../harness/agent-client.ts";
import type { Capsule, Client } from "../harness/client.ts";
import { CapsulePort, seen, startGuestServer } from "../harness/guest-server.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { rawExchange } from "../harness/raw-http.ts";

const BOOT_TIMEOUT_MS = 120_000;
const SLOW_TIMEOUT_MS = 240_000;

let client: Client;
let dev: Platform;
let capsule: Capsule;
let port: CapsulePort;
let envd: CapsulePort;

beforeAll(async () => {
  [client, dev] = await Promise.all([adminClient(), platform()]);
  capsule = await client.create({ template: "minimal-debian", vcpus: 1, memory_mb: 512 });
  port = await startGuestServer(client, dev, { capsuleId: capsule.id, port: 8000 });
  envd = new CapsulePort(dev, capsule.id, 49983);
}, BOOT_TIMEOUT_MS);

afterAll(async () => {
  await client.destroy(capsule.id);
}, BOOT_TIMEOUT_MS);

/** The capsule's tokens, as the control plane derives them. */
async function tokens(capsuleId: string): Promise<{ envd: string; traffic: string }> {
  const secrets = JSON.parse(await readFile(`${dev.dir.path}/secrets.json`, "utf8"));
  const derived = new EnvdTokens(Uint8Array.fromHex(secrets.encryptionKey));
  const id = decodeId("capsule", capsuleId);
  if (id === null) throw new Error("no id");
  return { envd: derived.of(id), traffic: derived.trafficOf(id) };
}

async function refusal(response: Response) {
  const body: { code: number; message: string; sandboxId?: string; port?: number } = JSON.parse(
    await response.text(),
  );
  return { status: response.status, ...body };
}

describe("credentials", () => {
  test("ours never reach the guest, the application's own do", async () => {
    const { apiKey, email, password } = dev.account;
    const jwt = await logIn(email, password);
    const { envd: token } = await tokens(capsule.id);
    const lost = await Promise.all(
      [
        { "x-api-key": apiKey },
        { "x-api-key": "anything" },
        { authorization: `Bearer ${apiKey}` },
        { authorization: `Bearer ${jwt}` },
        { authorization: `Basic ${btoa(`x:${apiKey}`)}` },
        { cookie: "wrenn_sid=a; wrenn_csrf=b" },
        { "x-access-token": token },
        { "x-wrenn-traffic-token": "t" },
      ].map(async (headers) => JSON.stringify(await port.echo("/", { headers }))),
    );
    const kept = await port.echo("/", {
      headers: {
        authorization: `Basic ${btoa("user:password")}`,
        cookie: "a=1; wrenn_sid=x; b=2",
        "x-access-token": "the application's",
      },
    });
    const bearer = await port.echo("/", { headers: { authorization: `Bearer ${FOREIGN_JWT}` } });

    for (const text of lost) {
      expect(text).not.toMatch(/authorization|x-api-key|cookie|x-access-token|traffic/i);
    }
    expect(seen(kept, "authorization")).toBe(`Basic ${btoa("user:password")}`);
    expect(seen(kept, "cookie")).toBe("a=1; b=2");
    expect(seen(kept, "x-access-token")).toBe("the application's");
    expect(seen(bearer, "authorization")).toBe(`Bearer ${FOREIGN_JWT}`);
  });

  test("a guest sets no cookie of ours", async () => {
    const response = await port.fetch("/cookies");

    expect(response.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
  });

  test("envd asks for its token or a signed URL, and its control routes do not exist", async () => {
    const { envd: token } = await tokens(capsule.id);
    const other = "0".repeat(64);
    const withToken = (value: string) => ({ headers: { "x-access-token": value } });
    await client.write(capsule.id, "/tmp/signed.txt", "signed");
    const signed = signedPath("/tmp/signed.txt", token);

    const statuses = {
      none: (await envd.fetch("/metrics")).status,
      files: (await envd.fetch("/files?path=/tmp/signed.txt")).status,
      key: (await envd.fetch("/metrics", { headers: { "x-api-key": dev.account.apiKey } })).status,
      wrong: (await envd.fetch("/metrics", withToken(other))).status,
      right: (await envd.fetch("/health", withToken(token))).status,
      forged: (await envd.fetch(signed.replace("signed.txt", "other.txt"))).status,
    };
    const controls = ["/init", "/freeze", "/unfreeze", "//init", "/INIT", "/./init", "/%69nit"];
    const control = await Promise.all(
      controls.map(async (path) => {
        const head = `POST ${path} HTTP/1.1\r\nHost: ${envd.host}\r\nX-Access-Token: ${token}\r\n`;
        const { text } = await rawExchange(
          dev.ports.cp,
          `${head}Content-Length: 2\r\nConnection: close\r\n\r\n{}`,
        );
        return text.slice(0, 12);
      }),
    );

    expect(statuses).toEqual({
      none: 401,
      files: 401,
      key: 401,
      wrong: 401,
      right: 200,
      forged: 401,
    });
    expect(await (await envd.fetch(signed)).text()).toBe("signed");
    expect(new Set(control)).toEqual(new Set(["HTTP/1.1 404"]));
  });

  test(
    "private ports ask for the traffic token",
    async () => {
      const own = await client.create({ private_ports: true });
      const { private_ports, traffic_token } = own as {
        private_ports?: boolean;
        traffic_token?: string;
      };
      const place = new CapsulePort(dev, own.id, 8000);
      const headers = { "e2b-traffic-access-token": traffic_token ?? "" };

      const missing = await refusal(await place.fetch("/"));
      const wrong = await refusal(
        await place.fetch("/", { headers: { "x-wrenn-traffic-token": "x" } }),
      );
      const right = await refusal(await place.fetch("/", { headers }));
      await client.destroy(own.id);

      expect(private_ports).toBe(true);
      expect(traffic_token).toBe((await tokens(own.id)).traffic);
      expect([missing.status, wrong.status]).toEqual([403, 403]);
      expect(right).toMatchObject({ status: 502, port: 8000 });
    },
    BOOT_TIMEOUT_MS,
  );
});

describe("refusals", () => {
  test("a closed port, an unknown capsule and a bad host are told apart", async () => {
    const closed = await refusal(await new CapsulePort(dev, capsule.id, 8001).fetch("/"));
    const unknownId = `cl-${"0".repeat(24)}1`;
    const unknown = await refusal(await new CapsulePort(dev, unknownId, 8000).fetch("/x"));
    const bad = await refusal(await new CapsulePort(dev, capsule.id, 70_000).fetch("/"));
    const page = await new CapsulePort(dev, unknownId, 8000).fetch("/", {
      headers: { accept: "text/html", "sec-fetch-mode": "navigate" },
    });

    expect(closed).toMatchObject({
      status: 502,
      sandboxId: capsule.id,
      message: "The sandbox is running but port is not open",
      port: 8001,
      code: 502,
    });
    expect(unknown).toMatchObject({
      status: 502,
      sandboxId: unknownId,
      message: "The sandbox was not found",
      code: 502,
    });
    expect(bad.status).toBe(400);
    expect(page.headers.get("content-type")).toContain("text/html");
  });

  test(
    "a destroyed capsule answers 502 at once, and its streams end",
    async () => {
      const own = await client.create();
      const place = await startGuestServer(client, dev, { capsuleId: own.id, port: 8000 });
      const stream = await place.fetch("/download?bytes=1000000000000");
      const reader = stream.body?.getReader();
      await reader?.read();
      const destroyed = client.destroy(own.id);
      const cut = (async () => {
        while (!(await reader?.read())?.done);
        return "whole";
      })().catch(() => "cut");

      expect(await cut).toBe("cut");
      await destroyed;
      expect(await refusal(await place.fetch("/"))).toMatchObject({
        status: 502,
        sandboxId: own.id,
        message: "The sandbox was not found",
      });
    },
    SLOW_TIMEOUT_MS,
  );
});

describe("hostile servers", () => {
  test.each(["endless-head"])(
    "%s is a bad gateway",
    async (path) => {
      expect(await refusal(await port.fetch(`/hostile/${path}`))).toMatchObject({ status: 502 });
    },
    60_000,
  );

  test.each(["bad-chunks", "reset", "short"])("%s fails at the client", async (path) => {
    const response = await port.fetch(`/hostile/${path}`);

    expect(await response.text().catch(() => "failed")).toBe("failed");
  });

  test("one that never answers holds nobody else up", async () => {
    const waiting = new AbortController();
    const asked = Array.from({ length: 20 }, () =>
      port.fetch("/hostile/never", { signal: waiting.signal }).catch(() => null),
    );

    expect((await port.fetch("/")).status).toBe(200);
    waiting.abort();
    await Promise.all(asked);
  });
});

test("an open connection keeps its capsule active", async () => {
  const socket = connect({ port: dev.ports.cp, host: "127.0.0.1" });
  socket.write(`GET /hostile/never HTTP/1.1\r\nHost: ${port.host}\r\n\r\n`);
  await Bun.sleep(2_500);
  const { sandboxes } = await (await agentClient()).listSandboxes({});
  const lastActiveAt = sandboxes.find(
    ({ sandboxId }) => sandboxId === capsule.id,
  )?.lastActiveAtUnix;
  socket.destroy();

  expect(Number(lastActiveAt)).toBeGreaterThanOrEqual(Math.floor(Date.now() / 1000) - 1);
});

/** Somebody else's token: HS256, but not our secret. */
const FOREIGN_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlLW9mLXNvbWVib2R5LWVsc2U";

async function logIn(email: string, password: string): Promise<string> {
  const body = { email, password };
  return (await client.json<{ token: string }>("POST", "/v1/auth/login", body)).token;
}

function signedPath(path: string, token: string): string {
  const expiration = Math.floor(Date.now() / 1000) + 300;
  const text = `${path}:read::${token}:${expiration}`;
  const digest = new Bun.CryptoHasher("sha256").update(text).digest("base64").replace(/=+$/, "");
  const query = new URLSearchParams({
    path,
    signature: `v1_${digest}`,
    signature_expiration: String(expiration),
  });
  return `/files?${query}`;
}
