// Starting processes, and what their streams tell, as clients of process.Process see it.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "@connectrpc/connect";
import type { Process } from "../../proto/gen/envd/process_pb.js";
import { Signal } from "../../proto/gen/envd/process_pb.js";
import { waitFor } from "../harness/wait-for.ts";
import {
  codeName,
  gather,
  runShell,
  startAndLeave,
  tagsOf,
  untilGone,
  untilListed,
} from "./command.ts";
import {
  type Encoding,
  type Envd,
  MOMENT_MS,
  openEnvd,
  PACE,
  processClient,
  WAIT_MS,
} from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

let envd: Envd;
beforeAll(async () => {
  envd = await openEnvd();
});
afterAll(() => envd[Symbol.asyncDispose]());

const END = { exitCode: 0, exited: true, status: "exit status 0" };

for (const encoding of ["json", "binary"] satisfies Encoding[]) {
  describe(`in ${encoding}`, () => {
    let client: Client<typeof Process>;
    beforeAll(() => {
      client = processClient(envd, encoding);
    });

    test("a command's output, error output and status arrive apart", async () => {
      const { stdout, stderr, end } = await runShell(client, "echo out; echo err >&2; exit 3");

      expect({ stdout: stdout.toString(), stderr: stderr.toString(), end }).toMatchObject({
        stdout: "out\n",
        stderr: "err\n",
        end: { exitCode: 3, exited: true, status: "exit status 3", error: "exit status 3" },
      });
    });

    test("output is bytes, not text", async () => {
      const { stdout } = await runShell(client, "printf '\\377\\000\\303\\050é'");

      expect(stdout).toEqual(Buffer.from([0xff, 0, 0xc3, 0x28, 0xc3, 0xa9]));
    });

    test("much output arrives complete and in order", async () => {
      const script = `seq 1 1300000 | head -c ${10_000_000 / PACE}`;
      const { stdout, end } = await runShell(client, script);

      const expected = await new Response(Bun.spawn(["sh", "-c", script]).stdout).bytes();
      expect(end).toMatchObject(END);
      expect(Bun.hash(stdout)).toBe(Bun.hash(expected));
    });

    test("a process ended by a signal says which", async () => {
      const { end } = await runShell(client, "kill -9 $$");

      expect(end).toMatchObject({ exitCode: -1, exited: false, status: "signal: killed" });
    });
  });
}

describe("start", () => {
  let client: Client<typeof Process>;
  beforeAll(() => {
    client = processClient(envd, "binary");
  });

  test("fast output and the end are never lost", async () => {
    const outcomes = await Promise.all(
      Array.from({ length: Math.ceil(50 / PACE) }, (_, i) =>
        runShell(client, `printf ${i}; exit ${i}`),
      ),
    );

    expect(outcomes.map(({ stdout, end }) => [stdout.toString(), end?.exitCode])).toEqual(
      outcomes.map((_, i) => [String(i), i]),
    );
  });

  test("stdout and stderr can be opened by name", async () => {
    const { stdout, stderr } = await runShell(client, "echo a >/dev/stdout; echo b >/dev/stderr");

    expect([stdout.toString(), stderr.toString()]).toEqual(["a\n", "b\n"]);
  });

  test("a missing command ends with 127, one that is no program with 126", async () => {
    const missing = await gather(client.start({ process: { cmd: "no-such-command" } }));
    const noProgram = await gather(client.start({ process: { cmd: "/etc/passwd" } }));

    expect([missing.end?.exitCode, noProgram.end?.exitCode]).toEqual([127, 126]);
    expect(missing.stderr.toString()).toContain("no-such-command: command not found");
  });

  test("a child in the background does not hold the stream open and keeps running", async () => {
    const path = `/tmp/envd-background-${crypto.randomUUID()}`;
    const child = "until [ -e $0.go ]; do sleep 0.1; done; echo late; echo alive >$0";
    const script = `(${child}) & echo $!; exit 5`;
    const outcome = await gather(
      client.start({ process: { cmd: "/bin/sh", args: ["-c", script, path] } }),
    );

    // It has ended without the child, which waits for this.
    expect(outcome.end?.exitCode).toBe(5);
    await runShell(client, `: > ${path}.go`);
    await waitFor(
      "the process to have lived on",
      async () => (await runShell(client, `cat ${path} && rm ${path}*`)).stdout.toString(),
      { holds: (text) => text === "alive\n", timeoutMs: WAIT_MS },
    );
  });

  test("a child that floods the output does not hold the stream open either", async () => {
    const outcome = await runShell(client, "yes & echo $! >&2");
    await runShell(client, `kill ${outcome.stderr.toString()}`);

    expect(outcome.end).toMatchObject(END);
  });

  test("the deadline kills the whole process group and ends the stream", async () => {
    const outcome = await runShell(client, "sleep 100 & echo $!; wait", { timeoutMs: 300 });
    const child = outcome.stdout.toString().trim();

    expect(outcome.error && codeName(outcome.error.code)).toBe("deadline_exceeded");
    await untilGone(client, child);
  });

  test("the deadline holds when the client has long gone", async () => {
    const tag = crypto.randomUUID();
    const timeoutMs = 4 * MOMENT_MS;
    await startAndLeave(client, { cmd: "/bin/sleep", args: ["100"], tag, timeoutMs });

    expect(await tagsOf(client)).toContain(tag);
    await waitFor("the end of the process", () => tagsOf(client), {
      holds: (tags) => !tags.includes(tag),
      timeoutMs: WAIT_MS,
    });
  });

  test("a client that leaves does not end the process; the next one gets the rest", async () => {
    const tag = crypto.randomUUID();
    const script = "echo early; : >$0; read line; rm $0; echo $line";
    const path = `/tmp/envd-early-${tag}`;
    await startAndLeave(client, { cmd: "/bin/sh", args: ["-c", script, path], tag });
    await untilThere(client, path);

    const selector = { selector: { case: "tag", value: tag } } as const;
    const outcome = gather(client.connect({ process: selector }));
    await Bun.sleep(100);
    await client.sendInput({
      process: selector,
      input: { input: { case: "stdin", value: Buffer.from("late\n") } },
    });

    const { pid, stdout, end } = await outcome;
    expect({ stdout: stdout.toString(), end }).toMatchObject({ stdout: "late\n", end: END });
    expect(pid).toBeGreaterThan(0);
  });

  test("an ended process is replayed as start and end", async () => {
    const { pid } = await runShell(client, "echo x; exit 7");

    const again = await gather(
      client.connect({ process: { selector: { case: "pid", value: pid } } }),
    );
    expect({ pid: again.pid, code: again.end?.exitCode, out: again.stdout.length }).toEqual({
      pid,
      code: 7,
      out: 0,
    });
  });

  test("the deadline of connect ends only that stream", async () => {
    const tag = crypto.randomUUID();
    await startAndLeave(client, { cmd: "/bin/sleep", args: ["100"], tag });
    const selector = { selector: { case: "tag", value: tag } } as const;

    const outcome = await gather(client.connect({ process: selector }, { timeoutMs: 200 }));

    expect(outcome.error && codeName(outcome.error.code)).toBe("deadline_exceeded");
    expect(await tagsOf(client)).toContain(tag);
    await client.sendSignal({ process: selector, signal: Signal.SIGKILL });
  });

  test("a silent stream says that it lives", async () => {
    const { keepalives, end } = await runShell(client, "sleep 2.5", {
      headers: { "keepalive-ping-interval": "1" },
    });

    expect({ keepalives, end }).toMatchObject({ keepalives: 2, end: END });
  });

  test("signals reach the whole process group", async () => {
    const path = `/tmp/envd-trapped-${crypto.randomUUID()}`;
    const child = `trap "echo child; exit" TERM; : >${path}; sleep 9 & wait`;
    const script = `trap 'echo parent; wait; exit 4' TERM; sh -c '${child}' & wait`;
    const stream = client.start({ process: { cmd: "/bin/sh", args: ["-c", script] } });
    const outcome = gather(stream);
    const running = await untilListed(client, script);
    await untilThere(client, path);
    await client.sendSignal({
      process: { selector: { case: "pid", value: running } },
      signal: Signal.SIGTERM,
    });

    const { stdout, end } = await outcome;
    expect(stdout.toString().split("\n").toSorted()).toEqual(["", "child", "parent"]);
    expect(end?.exitCode).toBe(4);
  });

  test("a killed session leaves no job behind", async () => {
    const path = `/tmp/envd-job-${crypto.randomUUID()}`;
    const script = `set -m; sleep 300.5 & echo $!; : >${path}; wait`;
    const stream = client.start({ process: { cmd: "/bin/bash", args: ["-c", script] } });
    const outcome = gather(stream);
    const pid = await untilListed(client, script);
    await untilThere(client, path);
    await client.sendSignal({
      process: { selector: { case: "pid", value: pid } },
      signal: Signal.SIGKILL,
    });

    const { stdout, end } = await outcome;
    expect(end).toMatchObject({ status: "signal: killed" });
    await untilGone(client, stdout.toString().trim());
  });
});

/** What has made the file has come so far. */
async function untilThere(client: Client<typeof Process>, path: string): Promise<void> {
  const look = async () => (await runShell(client, `test -e ${path}`)).end?.exitCode;
  await waitFor(path, look, { holds: (code) => code === 0, timeoutMs: WAIT_MS });
}
