// What a request of process.Process decides, and which ones are refused.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "@connectrpc/connect";
import type { Process } from "../../proto/gen/envd/process_pb.js";
import { Signal } from "../../proto/gen/envd/process_pb.js";
import { waitFor } from "../harness/wait-for.ts";
import { codeName, failureOf, gather, runShell, startAndLeave, tagsOf } from "./command.ts";
import { asUser, type Envd, openEnvd, PACE, processClient, WAIT_MS } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

let envd: Envd;
beforeAll(async () => {
  envd = await openEnvd();
});
afterAll(() => envd[Symbol.asyncDispose]());

describe("environment", () => {
  let client: Client<typeof Process>;
  beforeAll(() => {
    client = processClient(envd, "json");
  });

  test("a user of the image is taken with home and groups", async () => {
    const script =
      "id -un; id -G; echo $HOME $USER $LOGNAME; grep -c . /proc/self/status >/dev/null";
    const { stdout } = await runShell(client, script, {
      ...asUser("nobody"),
      cwd: "/tmp",
    });
    const expected = await runShell(
      client,
      "id -un nobody; id -G nobody; echo $(getent passwd nobody | cut -d: -f6) nobody nobody",
    );

    expect(stdout.toString()).toBe(expected.stdout.toString());
  });

  test("an unknown user is unauthenticated", async () => {
    const { error } = await runShell(client, "true", asUser("no-such-user"));

    expect(error && codeName(error.code)).toBe("unauthenticated");
  });

  test("text is UTF-8 unless the caller says otherwise", async () => {
    const script = "echo $LANG $(expr length 日本)";
    const lengthIn = async (envs: Record<string, string>, pty?: object) => {
      const process = { cmd: "/bin/bash", args: ["-c", script], envs };
      const outcome = await gather(
        client.start(pty === undefined ? { process } : { process, pty }),
      );
      return (pty === undefined ? outcome.stdout : outcome.pty).toString().trim();
    };

    expect([
      await lengthIn({}),
      await lengthIn({}, {}),
      await lengthIn({ LANG: "C" }),
      await lengthIn({ LC_ALL: "C" }),
    ]).toEqual(["C.UTF-8 2", "C.UTF-8 2", "C 6", "C.UTF-8 6"]);
  });

  test("a process starts in the user's home with a plain environment", async () => {
    const { stdout } = await runShell(
      client,
      "pwd; ulimit -Sn; cat /proc/self/oom_score_adj; env -0 | grep -z ^HOME=",
      asUser("root"),
    );

    expect(stdout.toString()).toBe("/root\n1024\n100\nHOME=/root\0");
  });

  test("variables of the request win", async () => {
    const { stdout } = await runShell(client, 'echo "$HOME|$A"', {
      envs: { HOME: "/else", A: "b=c é" },
    });

    expect(stdout.toString()).toBe("/else|b=c é\n");
  });

  test("a working directory that is missing or a file is refused by name", async () => {
    const missing = await runShell(client, "true", { cwd: "/no/where" });
    const file = await runShell(client, "true", { cwd: "/etc/passwd" });

    expect([missing.error?.rawMessage, file.error?.rawMessage]).toEqual([
      "cwd '/no/where' does not exist",
      "cwd '/etc/passwd' does not exist",
    ]);
    expect(missing.error && codeName(missing.error.code)).toBe("invalid_argument");
  });

  test("ignored and blocked signals are not inherited", async () => {
    const { stdout } = await runShell(
      client,
      "grep -E '^Sig(Blk|Ign)' /proc/self/status; yes | head -1",
    );

    expect(stdout.toString()).toBe("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\ny\n");
  });

  test("nothing but the standard descriptors is inherited", async () => {
    const { stdout } = await runShell(client, "ls /proc/$$/fd");

    expect(stdout.toString()).toBe("0\n1\n2\n");
  });
});

describe("requests", () => {
  let client: Client<typeof Process>;
  beforeAll(() => {
    client = processClient(envd, "json");
  });

  test("that are malformed are refused by the name of the field", async () => {
    const start = (request: object) =>
      gather(client.start(request)).then(({ error }) => error?.rawMessage);

    expect([
      await start({}),
      await start({ process: { cmd: "a\0b" } }),
      await start({ process: { cmd: "true", envs: { "A=B": "c" } } }),
      await start({ process: { cmd: "true" }, tag: "t".repeat(300) }),
      await start({ process: { cmd: "true" }, pty: { size: { cols: 0, rows: 1 } } }),
    ]).toEqual([
      "process.cmd: is required",
      "process: cmd, args and envs cannot hold a NUL byte",
      "process.envs: 'A=B' is no variable name",
      "tag: is longer than 128 bytes",
      "pty.size: cols and rows must be 1 to 65535",
    ]);
  });

  test("for signals other than TERM and KILL are refused", async () => {
    const tag = crypto.randomUUID();
    await startAndLeave(client, { cmd: "/bin/sleep", args: ["100"], tag });
    const process = { selector: { case: "tag", value: tag } } as const;

    const none = await failureOf(client.sendSignal({ process }));
    await client.sendSignal({ process, signal: Signal.SIGTERM });
    expect(none.code).toBe("invalid_argument");
    await waitFor("the end of the process", () => tagsOf(client), {
      holds: (tags) => !tags.includes(tag),
      timeoutMs: WAIT_MS,
    });
  });

  test("without the token are refused", async () => {
    const response = await fetch(`${envd.baseUrl}/process.Process/List`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });

    expect(response.status).toBe(401);
  });
});
