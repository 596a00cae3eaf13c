// Readers, input and terminals of processes, as clients of process.Process see them.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "@connectrpc/connect";
import type { Process } from "../../proto/gen/envd/process_pb.js";
import { Signal } from "../../proto/gen/envd/process_pb.js";
import { waitFor } from "../harness/wait-for.ts";
import { failureOf, gather, openRawStart, runShell, startAndLeave, tagsOf } from "./command.ts";
import { type Envd, openEnvd, PACE, processClient, WAIT_MS } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

let envd: Envd;
beforeAll(async () => {
  envd = await openEnvd();
});
afterAll(() => envd[Symbol.asyncDispose]());

/** Much more than what lies between a process and its reader. */
const MANY_BYTES = Math.max(60_000_000 / PACE, 15_000_000);

/** The same, in pieces of a million bytes. */
const PIECES = PACE > 1 ? 20 : 40;

const END = { exitCode: 0, exited: true, status: "exit status 0" };

describe("readers", () => {
  let client: Client<typeof Process>;
  beforeAll(() => {
    client = processClient(envd, "binary");
  });

  test("one that does not read makes its process wait, and no other", async () => {
    const path = `/tmp/envd-pace-${crypto.randomUUID()}`;
    const script = `i=0; while [ $i -lt ${PIECES} ]; do head -c 1000000 /dev/zero; i=$((i+1)); echo $i >${path}; done`;
    const socket = await openRawStart(envd, script);
    const progress = async () => (await runShell(client, `cat ${path}`)).stdout.toString();
    let stuckAt = "";
    // What lies between this client and the process takes a while to fill.
    await waitFor(
      "the process to be stuck",
      async () => {
        stuckAt = await progress();
        await Bun.sleep(1500);
        return stuckAt !== "" && (await progress()) === stuckAt;
      },
      { timeoutMs: 30_000 * PACE },
    );
    const meanwhile = await runShell(client, `head -c ${MANY_BYTES / 3} /dev/zero`);
    const later = await progress();

    expect(meanwhile.stdout.length).toBe(MANY_BYTES / 3);
    expect(later).toBe(stuckAt);
    expect(Number(stuckAt)).toBeLessThan(0.75 * PIECES);
    socket.destroy();
    // Without its reader the process runs on to its end.
    await waitFor(
      "the process to go on",
      async () => (await runShell(client, `cat ${path}`)).stdout.toString(),
      { holds: (text) => text === `${PIECES}\n`, timeoutMs: 50_000 },
    );
    await runShell(client, `rm ${path}`);
  });

  test("one that does not read does not hold up another one of the same process", async () => {
    const tag = crypto.randomUUID();
    const script = `read go; head -c ${MANY_BYTES} /dev/zero`;
    const slow = await openRawStart(envd, script, tag);
    await waitFor("the process", () => tagsOf(client), {
      holds: (tags) => tags.includes(tag),
      timeoutMs: WAIT_MS,
    });
    const selector = { selector: { case: "tag", value: tag } } as const;
    const fast = gather(client.connect({ process: selector }));
    await Bun.sleep(100 * PACE);
    await client.sendInput({
      process: selector,
      input: { input: { case: "stdin", value: Buffer.from("go\n") } },
    });

    const { stdout, end } = await fast;
    expect({ bytes: stdout.length, end }).toMatchObject({ bytes: MANY_BYTES, end: END });
    slow.destroy();
  });
});

describe("input", () => {
  let client: Client<typeof Process>;
  beforeAll(() => {
    client = processClient(envd, "binary");
  });

  test("arrives in order and complete, and ends when it is closed", async () => {
    const tag = crypto.randomUUID();
    const outcome = gather(
      client.start({ process: { cmd: "/bin/sh", args: ["-c", "sleep 0.3; sha1sum"] }, tag }),
    );
    await waitFor("the process", () => tagsOf(client), {
      holds: (tags) => tags.includes(tag),
      timeoutMs: WAIT_MS,
    });
    const selector = { selector: { case: "tag", value: tag } } as const;
    const pieces = Array.from({ length: 40 }, (_, i) => Buffer.alloc(65_536, i));
    for (const value of pieces) {
      await client.sendInput({ process: selector, input: { input: { case: "stdin", value } } });
    }
    await client.closeStdin({ process: selector });

    const sum = new Bun.CryptoHasher("sha1").update(Buffer.concat(pieces)).digest("hex");
    expect((await outcome).stdout.toString()).toBe(`${sum}  -\n`);
  });

  test("can be one stream of messages", async () => {
    const tag = crypto.randomUUID();
    const outcome = gather(client.start({ process: { cmd: "/bin/cat" }, tag }));
    await waitFor("the process", () => tagsOf(client), {
      holds: (tags) => tags.includes(tag),
      timeoutMs: WAIT_MS,
    });
    const start = { start: { process: { tag } } };
    const data = (text: string) => ({ data: { input: { stdin: btoa(text) } } });

    const good = await streamInput([start, data("one "), { keepalive: {} }, data("two")]);
    const early = await streamInput([data("lost")]);
    const empty = await streamInput([start, {}]);
    await client.closeStdin({ process: { selector: { case: "tag", value: tag } } });

    expect((await outcome).stdout.toString()).toBe("one two");
    expect(good).not.toContain("error");
    expect([early, empty].map((text) => text.includes('"code":"invalid_argument"'))).toEqual([
      true,
      true,
    ]);
  });

  test("is at its end from the start when stdin is refused", async () => {
    const outcome = await gather(client.start({ process: { cmd: "/bin/cat" }, stdin: false }));

    expect(outcome.end).toMatchObject(END);
  });

  test("to a closed stdin, an unknown process or the wrong kind is refused", async () => {
    const tag = crypto.randomUUID();
    await startAndLeave(client, { cmd: "/bin/sleep", args: ["100"], tag });
    const selector = { selector: { case: "tag", value: tag } } as const;
    const value = Buffer.from("x");
    const send = (input: { case: "stdin" | "pty"; value: Uint8Array }, process: object) =>
      failureOf(client.sendInput({ process, input: { input } })).then(({ code }) => code);

    const wrongKind = await send({ case: "pty", value }, selector);
    await client.closeStdin({ process: selector });
    const closed = await send({ case: "stdin", value }, selector);
    const unknown = await send({ case: "stdin", value }, { selector: { case: "pid", value: 1 } });
    const none = await send({ case: "stdin", value }, {});
    await client.sendSignal({ process: selector, signal: Signal.SIGKILL });

    expect([wrongKind, closed, unknown, none]).toEqual([
      "failed_precondition",
      "failed_precondition",
      "not_found",
      "invalid_argument",
    ]);
  });

  test("that a process does not read has a bound", async () => {
    const tag = crypto.randomUUID();
    await startAndLeave(client, { cmd: "/bin/sleep", args: ["100"], tag });
    const selector = { selector: { case: "tag", value: tag } } as const;
    const value = Buffer.alloc(1_000_000);
    const pending = Array.from({ length: 5 }, () =>
      client.sendInput({ process: selector, input: { input: { case: "stdin", value } } }),
    );
    const results = Promise.allSettled(pending);
    const first = await failureOf(Promise.race(pending));
    await client.sendSignal({ process: selector, signal: Signal.SIGKILL });
    const settled = await results;

    expect(first.code).toBe("resource_exhausted");
    expect(settled.every(({ status }) => status === "rejected")).toBe(true);
  });
});

describe("terminal", () => {
  let client: Client<typeof Process>;
  beforeAll(() => {
    client = processClient(envd, "binary");
  });
  const pty = { size: { cols: 100, rows: 30 } };

  test("controls its process and has the size asked for", async () => {
    const script = "tty; stty size; ps -o tty= -p $$; echo 'no echo' | cat";
    const { pty: shown, end } = await gather(
      client.start({ process: { cmd: "/bin/bash", args: ["-c", script] }, pty }),
    );

    const [tty = "", size, controlling, piped] = shown.toString().split("\r\n");
    expect({ size, controlling, piped, end }).toMatchObject({
      size: "30 100",
      controlling: tty.replace("/dev/", ""),
      piped: "no echo",
      end: END,
    });
  });

  test("deletes a character, not a byte of it, in a line that it edits itself", async () => {
    const tag = crypto.randomUUID();
    const script = 'stty -echo; echo ready; read line; printf "[%s]" "$line"';
    const outcome = gather(
      client.start({ process: { cmd: "/bin/sh", args: ["-c", script] }, pty, tag }),
    );
    await waitFor("the process", () => tagsOf(client), {
      holds: (tags) => tags.includes(tag),
      timeoutMs: WAIT_MS,
    });
    const selector = { selector: { case: "tag", value: tag } } as const;
    const value = Buffer.from("aü日\x7f\x7fb\n");
    await client.sendInput({ process: selector, input: { input: { case: "pty", value } } });

    expect((await outcome).pty.toString()).toContain("[ab]");
  });

  test("has job control, takes input, follows a new size and interrupts by key", async () => {
    const tag = crypto.randomUUID();
    const process = {
      cmd: "/bin/bash",
      args: ["--norc", "-i"],
      envs: { PS1: "$ ", TERM: "xterm" },
    };
    const outcome = gather(client.start({ process, pty, tag }));
    await waitFor("the process", () => tagsOf(client), {
      holds: (tags) => tags.includes(tag),
      timeoutMs: WAIT_MS,
    });
    const selector = { selector: { case: "tag", value: tag } } as const;
    const type = async (text: string) => {
      await client.sendInput({
        process: selector,
        input: { input: { case: "pty", value: Buffer.from(text) } },
      });
      await Bun.sleep(150 * PACE);
    };
    await type("sleep 100\n");
    await type("\x03");
    await type("sleep 200 &\njobs; kill %1\n");
    await client.update({ process: selector, pty: { size: { cols: 132, rows: 43 } } });
    await type("stty size\n");
    await type("exit 9\n");

    const { pty: shown, end } = await outcome;
    expect(shown.toString()).toContain("^C");
    expect(shown.toString()).toMatch(/\[1\]\+? +Running +sleep 200/);
    expect(shown.toString()).toContain("43 132");
    expect(shown.toString()).not.toContain("no job control");
    expect(end?.exitCode).toBe(9);
  });

  test("does not end the stream early or late when its process ends", async () => {
    const { pty: shown, end } = await gather(
      client.start({ process: { cmd: "/bin/sh", args: ["-c", "seq 1 20000"] }, pty }),
    );

    expect(shown.toString().endsWith("\r\n19999\r\n20000\r\n")).toBe(true);
    expect(end).toMatchObject(END);
  });

  test("shows its past to a client that comes back and asks", async () => {
    const tag = crypto.randomUUID();
    const args = ["-c", "echo shown before; read line; echo bye"];
    await startAndLeave(client, { cmd: "/bin/sh", args, tag, pty });
    await Bun.sleep(300 * PACE);
    const process = { selector: { case: "tag", value: tag } } as const;
    const asking = gather(client.connect({ process, scrollback: true }));
    const plain = gather(client.connect({ process }));
    await Bun.sleep(100 * PACE);
    const value = Buffer.from("\n");
    await client.sendInput({ process, input: { input: { case: "pty", value } } });

    expect([(await asking).pty.toString(), (await plain).pty.toString()]).toEqual([
      "shown before\r\n\r\nbye\r\n",
      "\r\nbye\r\n",
    ]);
  });

  test("cannot have its input closed, and pipes cannot be resized", async () => {
    const [withPty, withPipes] = [crypto.randomUUID(), crypto.randomUUID()];
    await startAndLeave(client, { cmd: "/bin/sleep", args: ["100"], tag: withPty, pty });
    await startAndLeave(client, { cmd: "/bin/sleep", args: ["100"], tag: withPipes });
    const select = (value: string) => ({ selector: { case: "tag", value } }) as const;

    const close = await failureOf(client.closeStdin({ process: select(withPty) }));
    const resize = await failureOf(client.update({ process: select(withPipes), pty }));
    for (const tag of [withPty, withPipes]) {
      await client.sendSignal({ process: select(tag), signal: Signal.SIGKILL });
    }

    expect([close.code, resize.code]).toEqual(["failed_precondition", "failed_precondition"]);
  });
});

/** Client streams cannot be sent by fetch as they go, but as a whole. */
async function streamInput(messages: object[]): Promise<string> {
  const frames = messages.map((message) => {
    const payload = Buffer.from(JSON.stringify(message));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(payload.length, 1);
    return Buffer.concat([head, payload]);
  });
  const response = await fetch(`${envd.baseUrl}/process.Process/StreamInput`, {
    method: "POST",
    headers: { "x-access-token": envd.token, "content-type": "application/connect+json" },
    body: Buffer.concat(frames),
  });
  return response.text();
}
