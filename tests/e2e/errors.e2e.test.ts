// What a user can do wrong with a capsule's commands and files, and what goes wrong with them in the
// capsule: each with the request that causes it and the answer, which says what to do.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Capsule, Client } from "../harness/client.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { StreamClient, type StreamMessage } from "../harness/stream-client.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";
import { COMMANDS, DELETE, FILES, STREAMS } from "./error-tables.ts";

setDefaultTimeout(120_000);

let client: Client;
let base: string;
let headers: Record<string, string>;
let capsule: Capsule;
beforeAll(async () => {
  client = await adminClient();
  const { baseUrl, account } = await platform();
  base = baseUrl;
  headers = { "x-api-key": account.apiKey };
  capsule = await client.create({ memory_mb: 512 });
  await client.sh(
    capsule.id,
    `mkdir -p /t/dir /t/full /t/fixed; cd /t; echo text > file; ln -s loop loop; mkfifo pipe
     chown -R wrenn-user /t; mount -t tmpfs -o size=64k none full; mount --bind fixed fixed
     mount -o remount,bind,ro fixed`,
    { user: "root" },
  );
});
afterAll(() => client.destroy(capsule.id));

describe.each([
  ["commands", COMMANDS],
  ["files", FILES],
] as const)("%s", (_, rows) => {
  test.each(rows.map((row) => [...row]))("%s", async (_what, route, body, status, error) => {
    const answer = await ask(capsule.id, route, body);

    expect(`${answer.status} ${answer.error}`).toStartWith(`${status} ${error}`);
  });
});

test("a command as large as Linux takes runs", async () => {
  const args = ["-c", "echo $#", "sh", ...Array(19).fill('"\\'.repeat(50_000))];
  expect((await client.exec(capsule.id, { cmd: "sh", args })).stdout).toBe("19\n");
});

describe("a stream", () => {
  test.each(STREAMS.map((row) => [...row] as const))("%s", async (_what, route, first, error) => {
    await using stream = await StreamClient.open(base, path(capsule.id, route), headers);
    stream.send({ ...first });

    expect(told((await stream.rest()).at(-1))).toStartWith(error);
  });
});

test("a capsule that is paused says so to what it cuts off, which goes on after the resume", async () => {
  const { id } = capsule;
  const goesOn = "invalid_state The capsule is paused; what runs in it goes on when it is resumed";
  const script = "for i in $(seq 300); do echo $i > /home/wrenn-user/count; sleep 0.1; done";
  await using stream = await StreamClient.open(base, path(id, "exec/stream"), headers);
  stream.send({ type: "start", cmd: "sh", args: ["-c", script] });
  await stream.until("start");
  await using terminal = await StreamClient.open(base, path(id, "pty"), headers);
  terminal.send({ type: "start" });
  await terminal.until("started");
  const command = sleeping(id);
  await command.started;

  await client.json("POST", path(id, "pause"));
  const ends = await Promise.all([stream.rest(), terminal.rest()]);

  expect((await command.answer).error).toBe(goesOn);
  expect(ends.map((messages) => told(messages.at(-1)))).toEqual([goesOn, goesOn]);
  const refused = await ask(id, "files/read", { path: "/home/wrenn-user/count" });
  expect(`${refused.status} ${refused.error}`).toBe(
    "409 invalid_state the capsule is not running: it is paused",
  );

  await client.json("POST", path(id, "resume"));
  const count = async () => (await client.sh(id, "cat /home/wrenn-user/count")).stdout;
  const before = await count();
  await waitFor("the count", count, { holds: (after) => after !== before, timeoutMs: GUEST_MS });
});

test("a capsule that is destroyed says so, and others are unknown", async () => {
  const { id } = capsule;
  const command = sleeping(id);
  await command.started;
  await client.destroy(id);

  const after = await ask(id, "exec", { cmd: "true" });
  expect((await command.answer).error).toBe("invalid_state The capsule ended");
  expect(`${after.status} ${after.error}`).toStartWith(
    "409 invalid_state the capsule is not running",
  );
  expect((await ask("cl-0000000000000000000000000", "exec", { cmd: "true" })).status).toBe(404);
  expect((await ask("nonsense", "exec", { cmd: "true" })).status).toBe(400);
});

/** A command that ends with its capsule, or with the test. */
function sleeping(id: string) {
  const tag = `${Math.random()}`.slice(2);
  const args = ["-c", `echo ${tag} > /home/wrenn-user/tag; sleep 100`];
  const answer = ask(id, "exec", { cmd: "sh", args, timeout_sec: 100 });
  const read = async () => (await client.sh(id, "cat /home/wrenn-user/tag 2>&1")).stdout.trim();
  const holds = (text: string) => text === tag;
  return { answer, started: waitFor("the command", read, { holds, timeoutMs: GUEST_MS }) };
}

const path = (id: string, route: string) => `/v1/capsules/${id}/${route}`;

/** The status and, as one text, code and message; none when it succeeded. */
async function ask(id: string, route: string, body: unknown) {
  const json = body instanceof FormData ? body : JSON.stringify(body);
  const type = body instanceof FormData ? {} : { "content-type": "application/json" };
  const init =
    body === DELETE ? { method: "DELETE" } : { method: "POST", body: json, headers: type };
  const response = await client.fetch(path(id, route), init);
  const text = await response.text();
  if (response.ok) return { status: response.status, error: "" };
  const { error } = JSON.parse(text) as { error: { code: string; message: string } };
  return { status: response.status, error: `${error.code} ${error.message}` };
}

function told(message: StreamMessage | undefined): string {
  return `${message?.code} ${message?.data}`;
}
