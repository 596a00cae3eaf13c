// What every agent's streams and terminals do, beside the calls of the agent contract.

import { expect, test } from "bun:test";
import type { AgentClient } from "../../cp/agents/agent-clients.ts";
import { codeOf } from "./rpc-failure.ts";

export interface CapsuleUnderTest {
  readonly client: AgentClient;
  readonly sandboxId: string;
}

interface Reported {
  readonly event: { readonly case: string | undefined; readonly value?: unknown };
}

/** Registers the tests; `get` answers within them. */
export function testStreamContract(get: () => CapsuleUnderTest): void {
  const sh = (script: string, more: Record<string, unknown> = {}) => {
    const { client, sandboxId } = get();
    return client.execStream({ sandboxId, cmd: "/bin/sh", args: ["-c", script], ...more });
  };
  const attach = (request: {
    tag: string;
    cmd?: string;
    cols?: number;
    rows?: number;
    scrollback?: boolean;
  }) => {
    const { client, sandboxId } = get();
    return client.ptyAttach({ sandboxId, envs: { PS1: "$ " }, ...request });
  };

  test("a streamed command tells its start, its output and its exit, in order", async () => {
    const cases: (string | undefined)[] = [];
    const text = { stdout: "", stderr: "" };
    let exitCode: number | undefined;
    for await (const { event } of sh("echo out; echo err >&2; exit 9")) {
      if (event.case === undefined) continue;
      cases.push(event.case);
      if (event.case === "end") exitCode = event.value.exitCode;
      const output = event.case === "data" ? event.value.output : undefined;
      if (output?.case !== undefined) text[output.case] += Buffer.from(output.value).toString();
    }

    expect([cases[0], cases.at(-1), exitCode]).toEqual(["start", "end", 9]);
    expect(text).toEqual({ stdout: "out\n", stderr: "err\n" });
  });

  test("a streamed command past its time is killed", async () => {
    expect(await codeOf(all(sh("sleep 100", { timeoutSec: 1 })))).toBe("DeadlineExceeded");
  });

  test("a streamed command with a wrong user or directory is refused", async () => {
    expect([
      await codeOf(all(sh("true", { user: "nobody-here" }))),
      await codeOf(all(sh("true", { cwd: "/no/such/place" }))),
    ]).toEqual(["InvalidArgument", "InvalidArgument"]);
  });

  test("a streamed command outlives its caller and is read again by its pid", async () => {
    const { client, sandboxId } = get();
    const mark = `/tmp/mark-${crypto.randomUUID()}`;
    let pid = 0;
    for await (const { event } of sh(`while ! [ -e ${mark} ]; do sleep 0.1; done; echo went`)) {
      if (event.case !== "start") continue;
      pid = event.value.pid;
      break;
    }
    const again = client.connectProcess({ sandboxId, selector: { case: "pid", value: pid } });
    const messages: Reported[] = [];
    for await (const message of again) {
      messages.push(message);
      if (message.event.case === "start") {
        await client.exec({ sandboxId, cmd: "/bin/sh", args: ["-c", `touch ${mark}`] });
      }
    }

    const reported = messages.map(({ event }) => event.case).filter((name) => name !== undefined);
    expect(reported).toEqual(["start", "data", "end"]);
  });

  test("a process or terminal that does not exist is not found", async () => {
    const { client, sandboxId } = get();
    const target = { sandboxId, tag: "nobody" };
    const selector = { case: "tag" as const, value: "nobody" };

    expect([
      await codeOf(all(client.connectProcess({ sandboxId, selector }))),
      await codeOf(all(attach({ tag: "nobody" }))),
      await codeOf(client.ptySendInput({ ...target, data: Buffer.from("x") })),
      await codeOf(client.ptyResize({ ...target, cols: 80, rows: 24 })),
      await codeOf(client.ptyKill(target)),
    ]).toEqual(["NotFound", "NotFound", "NotFound", "NotFound", "NotFound"]);
  });

  test("a terminal takes input and sizes, keeps its past for the next reader, and is killed", async () => {
    const { client, sandboxId } = get();
    const target = { sandboxId, tag: `pty-${crypto.randomUUID().slice(0, 8)}` };
    const type = (text: string) => client.ptySendInput({ ...target, data: Buffer.from(text) });
    let output = "";
    for await (const { event } of attach({ tag: target.tag, cmd: "/bin/sh", cols: 90, rows: 20 })) {
      if (event.case === "started") await type("stty size\n");
      if (event.case === "output") output += Buffer.from(event.value.data).toString();
      if (output.includes("20 90")) break;
    }
    await client.ptyResize({ ...target, cols: 70, rows: 10 });
    await type("stty size\n");

    const cases: string[] = [];
    let later = "";
    for await (const { event } of attach({ tag: target.tag, scrollback: true })) {
      if (event.case === undefined) continue;
      cases.push(event.case);
      if (event.case === "output") later += Buffer.from(event.value.data).toString();
      if (later.includes("10 70") && !cases.includes("killed")) {
        cases.push("killed");
        await client.ptyKill(target);
      }
    }
    expect(later).toContain("20 90");
    expect([cases[0], cases.at(-1)]).toEqual(["started", "exited"]);
  });
}

async function all(messages: AsyncIterable<unknown>): Promise<void> {
  for await (const _message of messages);
}
