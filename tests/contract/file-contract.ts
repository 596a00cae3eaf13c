// The part of the contract of agents that is about files.

import { expect, test } from "bun:test";
import type { AgentClient } from "../../cp/agents/agent-clients.ts";
import { codeOf, failureOf } from "./rpc-failure.ts";

/** Registers the tests; `subject` is asked in each of them. */
export function testFileContract(subject: () => { client: AgentClient; id: string }): void {
  const client = () => subject().client;
  const id = () => subject().id;

  test("a file comes back as it was written, in one message and in a stream", async () => {
    const content = new Uint8Array(300_000).map((_, index) => index % 251);

    await client().writeFile({ sandboxId: id(), path: "/tmp/whole.bin", content });
    await client().writeFileStream(parts("/tmp/new/streamed.bin", content));

    const streamed: Uint8Array[] = [];
    for await (const { chunk } of client().readFileStream({
      sandboxId: id(),
      path: "/tmp/whole.bin",
    })) {
      streamed.push(chunk.slice());
    }
    expect(Bun.deepEquals(await new Blob(streamed.map((c) => c.slice())).bytes(), content)).toBe(
      true,
    );
    const whole = await client().readFile({ sandboxId: id(), path: "/tmp/new/streamed.bin" });
    expect(Bun.deepEquals(whole.content, content)).toBe(true);
  });

  test("an empty file is a file", async () => {
    await client().writeFileStream(parts("/tmp/empty", new Uint8Array()));

    expect(
      (await client().readFile({ sandboxId: id(), path: "/tmp/empty" })).content.byteLength,
    ).toBe(0);
  });

  test("a missing file says that it is the file that is missing", async () => {
    const path = "/tmp/absent";
    const failures = await Promise.all(
      [
        client().readFile({ sandboxId: id(), path }),
        client().removePath({ sandboxId: id(), path }),
        client().listDir({ sandboxId: id(), path }),
        drain(client().readFileStream({ sandboxId: id(), path })),
      ].map(failureOf),
    );

    expect(failures).toEqual(failures.map(() => ({ code: "NotFound", reason: "file" })));
  });

  test("a directory is made with its parents, once", async () => {
    const path = "/tmp/made/of/parts";

    const { entry } = await client().makeDir({ sandboxId: id(), path });

    expect(entry).toMatchObject({ name: "parts", path, type: "directory" });
    expect(await codeOf(client().makeDir({ sandboxId: id(), path }))).toBe("AlreadyExists");
  });

  test("a listing goes as deep as asked", async () => {
    await client().writeFile({
      sandboxId: id(),
      path: "/tmp/tree/a/b",
      content: new Uint8Array(3),
    });

    const names = async (depth: number) =>
      (await client().listDir({ sandboxId: id(), path: "/tmp/tree", depth })).entries.map(
        ({ path }) => path,
      );

    expect([await names(0), await names(1), await names(2)]).toEqual([
      ["/tmp/tree/a"],
      ["/tmp/tree/a"],
      ["/tmp/tree/a", "/tmp/tree/a/b"],
    ]);
  });

  test("a directory where a file is needed, or the reverse, is the caller's mistake", async () => {
    await client().writeFile({ sandboxId: id(), path: "/tmp/plain", content: new Uint8Array(1) });

    expect([
      await codeOf(client().readFile({ sandboxId: id(), path: "/tmp" })),
      await codeOf(client().listDir({ sandboxId: id(), path: "/tmp/plain" })),
      await codeOf(
        client().writeFile({ sandboxId: id(), path: "/tmp", content: new Uint8Array(1) }),
      ),
    ]).toEqual(["InvalidArgument", "InvalidArgument", "InvalidArgument"]);
  });

  test("what a user writes is that one's, and one that is not there writes nothing", async () => {
    const write = (user: string) =>
      client().writeFile({ sandboxId: id(), path: "/tmp/whose", content: new Uint8Array(1), user });

    expect(await codeOf(write("nobody-here"))).toBe("InvalidArgument");
    await write("root");

    const { entries } = await client().listDir({ sandboxId: id(), path: "/tmp", user: "root" });
    expect(entries.find(({ name }) => name === "whose")?.owner).toBe("root");
  });

  test("removing a directory removes what is in it", async () => {
    await client().writeFile({ sandboxId: id(), path: "/tmp/gone/x", content: new Uint8Array(1) });

    await client().removePath({ sandboxId: id(), path: "/tmp/gone" });

    expect(await codeOf(client().readFile({ sandboxId: id(), path: "/tmp/gone/x" }))).toBe(
      "NotFound",
    );
  });

  async function* parts(path: string, content: Uint8Array) {
    yield { content: { case: "meta" as const, value: { sandboxId: id(), path } } };
    for (let start = 0; start < content.byteLength; start += 65_536) {
      yield {
        content: { case: "chunk" as const, value: content.subarray(start, start + 65_536) },
      };
    }
  }
}

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream) {
    // Only the failure matters.
  }
}
