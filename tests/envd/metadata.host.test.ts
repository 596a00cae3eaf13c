// Metadata of files and composing them, as clients of envd see it.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { runShell } from "./command.ts";
import { type Envd, filesystemClient, openEnvd, PACE, processClient } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

let envd: Envd;
let dir: string;
beforeAll(async () => {
  envd = await openEnvd();
  dir = `/var/tmp/envd-metadata-${crypto.randomUUID()}`;
});
afterAll(async () => {
  await shell(`rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

describe("metadata", () => {
  test("of an upload is told by its answer, by stat, by a list and by a watch", async () => {
    const client = filesystemClient(envd, "json");
    const response = await upload("told", "x", { "x-metadata-Author": "ada", "x-metadata-b": "" });
    await upload("plain", "y");

    const metadata = { author: "ada", b: "" };
    const path = `${dir}/told`;
    const { entry } = await client.stat({ path });
    const { entries } = await client.listDir({ path: dir });
    expect(await response.json()).toEqual([{ path, name: "told", type: "file", metadata }]);
    expect(entry?.metadata).toEqual(metadata);
    expect(entries.map((one) => [one.name, one.metadata])).toEqual([
      ["plain", {}],
      ["told", metadata],
    ]);
  });

  test("is replaced as a whole by the next upload", async () => {
    await upload("replaced", "x", { "x-metadata-a": "1", "x-metadata-b": "2" });
    await upload("replaced", "x", { "x-metadata-b": "3" });
    const client = filesystemClient(envd, "binary");
    const second = await client.stat({ path: `${dir}/replaced` });
    await upload("replaced", "x");
    const third = await client.stat({ path: `${dir}/replaced` });

    expect([second.entry?.metadata, third.entry?.metadata]).toEqual([{ b: "3" }, {}]);
  });

  test("that does not fit is refused", async () => {
    const refusal = async (headers: Record<string, string>) => {
      const response = await upload("refused", "x", headers);
      const { message } = (await response.json()) as { message: string };
      return `${response.status} ${message}`;
    };

    expect([
      await refusal({ [`x-metadata-${"k".repeat(247)}`]: "v" }),
      await refusal({ "x-metadata-a": "é" }),
      await refusal({ "x-metadata-a": "v".repeat(4096) }),
    ]).toEqual([
      `400 metadata: '${"k".repeat(247)}' is no valid key`,
      "400 metadata: 'a' must be printable ASCII",
      "400 metadata: is longer than 4096 bytes",
    ]);
  });
});

describe("compose", () => {
  const compose = async (body: unknown) => {
    const response = await fetch(`${envd.baseUrl}/files/compose`, {
      method: "POST",
      headers: { "x-access-token": envd.token },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as { message?: string } };
  };

  test("joins the sources in order and takes them away", async () => {
    await shell(`mkdir -p ${dir}/c; cd ${dir}/c; printf 1 > a; printf 2 > b; printf old > to`);
    const answer = await compose({
      source_paths: [`${dir}/c/b`, `${dir}/c/a`, `${dir}/c/b`],
      destination: `${dir}/c/to`,
    });

    expect(answer).toEqual({
      status: 200,
      body: { path: `${dir}/c/to`, name: "to", type: "file" } as object,
    });
    expect(await shell(`cd ${dir}/c; cat to; echo; ls`)).toBe("212\nto\n");
  });

  test("leaves everything as it was when a source is missing", async () => {
    await shell(`mkdir -p ${dir}/m; cd ${dir}/m; printf 1 > a; printf old > to`);
    const answer = await compose({
      source_paths: [`${dir}/m/a`, `${dir}/m/nothing`],
      destination: `${dir}/m/to`,
    });

    expect([answer.status, answer.body.message]).toEqual([
      404,
      `path '${dir}/m/nothing' does not exist`,
    ]);
    expect(await shell(`cd ${dir}/m; cat a to; echo; ls`)).toBe("1old\na\nto\n");
  });

  test("refuses a body that makes no sense", async () => {
    const messages = await Promise.all(
      [null, {}, { source_paths: [1] }, { source_paths: ["a"] }].map(
        async (body) => (await compose(body)).body.message,
      ),
    );

    expect(messages).toEqual([
      "source_paths: must be 1 to 1000 paths",
      "source_paths: must be 1 to 1000 paths",
      "source_paths: must be 1 to 1000 paths",
      "destination: must be a path",
    ]);
  });
});

function upload(name: string, body: string, headers: Record<string, string> = {}) {
  return fetch(`${envd.baseUrl}/files?${new URLSearchParams({ path: `${dir}/${name}` })}`, {
    method: "POST",
    body,
    headers: {
      "x-access-token": envd.token,
      "content-type": "application/octet-stream",
      ...headers,
    },
  });
}

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}
