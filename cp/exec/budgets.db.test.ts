import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { type Answer, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import {
  HELD_BYTES_MAX,
  HELD_PER_CAPSULE_BYTES_MAX,
  HELD_PER_TEAM_BYTES_MAX,
} from "../agents/limits.ts";
import { capsules } from "../db/tables.ts";

const MIB = 1024 * 1024;
/** Of the test that makes two GiB of answers: half a minute where nothing else runs. */
const TEST_TIMEOUT_MS = 180_000;

let platform: TestPlatform;
let server: Bun.Server<unknown>;

beforeAll(async () => {
  platform = await TestPlatform.start();
  server = platform.controlPlane.listen();
});

afterAll(async () => {
  for (const socket of slow) socket.destroy();
  await server.stop(true);
  await platform[Symbol.asyncDispose]();
});

afterEach(async () => {
  await waitFor("that nothing is held", heldBytes, { holds: (bytes) => bytes === 0 });
  await platform.database.db.delete(capsules);
  platform.agent.capsules.clear();
});

const heldBytes = () => platform.controlPlane.deps.agents.held.bytes;
const failure = ({ status, body }: Answer) => [
  status,
  body.error?.code,
  (body.error as { retryable?: boolean } | undefined)?.retryable,
];

interface SlowClient {
  readonly status: number;
  readonly leave: () => void;
}

const slow = new Set<Socket>();

/** Prints so many characters, for a client that reads the head of the answer and no more. */
async function printing(id: string, bytes: number): Promise<SlowClient> {
  const body = JSON.stringify({
    cmd: "sh",
    args: ["-c", `head -c ${bytes} /dev/zero | tr '\\0' x`],
  });
  const socket = connect({ port: server.port ?? 0, host: "127.0.0.1" });
  slow.add(socket);
  socket.on("close", () => slow.delete(socket));
  socket.write(
    `POST /v1/capsules/${id}/exec HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n` +
      `X-API-Key: ${platform.team.apiKey}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body}`,
  );
  const [head] = (await once(socket, "data")) as [Buffer];
  socket.pause();
  return {
    status: Number(head.toString("latin1").split(" ")[1]),
    leave: () => socket.destroy(),
  };
}

async function execOf(id: string, bytes: number): Promise<Answer> {
  const args = ["-c", `head -c ${bytes} /dev/zero`];
  return await platform.call("POST", `/v1/capsules/${id}/exec`, { body: { cmd: "sh", args } });
}

test("what clients leave unread of one capsule is bounded, and free when they are gone or have read it", async () => {
  const id = await platform.create();
  // Three times that until the answer is written, once from then on.
  const bytes = 32 * MIB;
  const unread: SlowClient[] = [];

  for (let i = 0; i < 5; i++) unread.push(await printing(id, bytes));
  const held = heldBytes();
  const refused = await execOf(id, bytes);
  const elsewhere = await execOf(await platform.create(), 1000);
  for (const client of unread) client.leave();
  await waitFor("that nothing is held", heldBytes, { holds: (left) => left === 0 });
  const again = await execOf(id, MIB);

  expect(held).toBeGreaterThanOrEqual(5 * bytes);
  expect(held).toBeLessThanOrEqual(HELD_PER_CAPSULE_BYTES_MAX);
  expect(unread.map(({ status }) => status)).toEqual(Array(5).fill(200));
  // The command has run: the same request would run it again.
  expect(failure(refused)).toEqual([429, "rate_limited", false]);
  expect([elsewhere.status, again.status]).toEqual([200, 200]);
});

test("what a client that hangs up was to get is free", async () => {
  const client = await printing(await platform.create(), 32 * MIB);
  const held = heldBytes();

  client.leave();

  await waitFor("that nothing is held", heldBytes, { holds: (bytes) => bytes === 0 });
  expect(held).toBeGreaterThan(32 * MIB);
});

test("a listing that there is no room for is refused, and may be asked for again", async () => {
  const id = await platform.create();
  using all = platform.controlPlane.deps.agents.held.hold({
    capsuleId: "others",
    teamId: "others",
  });
  expect(() => all.take(HELD_BYTES_MAX)).toThrow();
  using most = holdAllBut(64);

  const answer = await platform.call("POST", `/v1/capsules/${id}/files/list`, {
    body: { path: "/" },
  });

  expect(most.bytes).toBe(HELD_BYTES_MAX - 64);
  expect(failure(answer)).toEqual([503, "service_unavailable", true]);
});

test("a file before its path is refused when its capsule has too much already", async () => {
  const id = await platform.create();
  const teamId = platform.team.id;
  const row = (await platform.database.db.select().from(capsules)).at(0);
  using most = platform.controlPlane.deps.agents.held.hold({
    capsuleId: row?.id ?? "",
    teamId,
  });
  most.take(HELD_PER_CAPSULE_BYTES_MAX - 10);
  const form = new FormData();
  form.append("file", new Blob(["eleven bytes"]));
  form.append("path", "/f");

  const refused = await platform.call("POST", `/v1/capsules/${id}/files/write`, { body: form });
  most[Symbol.dispose]();
  const written = await platform.call("POST", `/v1/capsules/${id}/files/write`, { body: form });

  expect(failure(refused)).toEqual([429, "rate_limited", true]);
  expect(written.status).toBe(204);
});

// Agent and clients are in this process as well; they hold what is on its way only. Without a budget three GiB
// stay, however often garbage is collected.
test(
  "the process stays small while many clients pull and none reads",
  async () => {
    const ids = await Promise.all(Array.from({ length: 3 }, () => platform.create()));
    const before = process.memoryUsage.rss();
    const clients: SlowClient[] = [];

    for (let i = 0; i < 150; i += 3) {
      clients.push(...(await Promise.all(ids.map((id) => printing(id, 16 * MIB)))));
    }
    const grownMib = () => {
      Bun.gc(true);
      return Math.round((process.memoryUsage.rss() - before) / MIB);
    };
    await waitFor("the end of garbage", grownMib, { holds: (mib) => mib < 1800, everyMs: 500 });
    const statuses = clients.map(({ status }) => status);
    const held = heldBytes();
    for (const client of clients) client.leave();

    expect(new Set(statuses)).toEqual(new Set([200, 429]));
    expect(held).toBeLessThanOrEqual(HELD_PER_TEAM_BYTES_MAX);
  },
  TEST_TIMEOUT_MS,
);

/** Takes all that the process may hold, for teams of nobody. */
function holdAllBut(left: number) {
  const { held } = platform.controlPlane.deps.agents;
  const parts = Array.from({ length: 4 }, (_, i) =>
    held.hold({ capsuleId: `nobody's ${i}`, teamId: `nobody ${i}` }),
  );
  const each = HELD_PER_CAPSULE_BYTES_MAX;
  parts.forEach((part, i) => {
    part.take(i === 3 ? each - left : each);
  });
  return {
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    [Symbol.dispose]: () => {
      for (const part of parts) part[Symbol.dispose]();
    },
  };
}
