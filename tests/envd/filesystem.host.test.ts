// filesystem.Filesystem as its clients see it.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "@connectrpc/connect";
import type { Filesystem } from "../../proto/gen/envd/filesystem_pb.js";
import { FileType } from "../../proto/gen/envd/filesystem_pb.js";
import { failureOf, runShell } from "./command.ts";
import { asUser, type Envd, filesystemClient, openEnvd, PACE, processClient } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

let envd: Envd;
let client: Client<typeof Filesystem>;
let dir: string;
beforeAll(async () => {
  envd = await openEnvd();
  client = filesystemClient(envd, "json");
  dir = `/tmp/envd-filesystem-${crypto.randomUUID()}`;
  await shell(`mkdir ${dir}`);
});
afterAll(async () => {
  await shell(`rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

describe("a list", () => {
  const list = async (path: string, depth: number) => {
    const { entries } = await client.listDir({ path, depth });
    return entries;
  };

  test("shows names that are no text, and what it shows can be asked for", async () => {
    const byte = (value: number) => String.fromCharCode(0xef80 - 0x80 + value);
    const raw = `${dir}/raw/ü${byte(0xff)}`;
    await shell(`mkdir ${dir}/raw; cd ${dir}/raw; d=$(printf 'ü\\377'); mkdir "$d"; cd "$d"
      printf 1 > "$(printf '\\303')"; printf 2 > "$(printf '\\356\\276\\200')"; ln -s "$PWD" l`);
    const below = [byte(0xc3), "l", byte(0xee) + byte(0xbe) + byte(0x80)];

    const entries = await list(`${dir}/raw`, 2);
    const bytes = await client.stat({ path: `${raw}/${byte(0xc3)}` });
    await client.makeDir({ path: `${raw}/${byte(0x80)}/${byte(0x81)}` });
    await client.move({ source: `${raw}/${byte(0xc3)}`, destination: `${raw}/l/${byte(0x80)}/m` });
    await client.remove({ path: `${raw}/${byte(0x80)}/${byte(0x81)}` });
    const cwd = `${raw}/l/${byte(0x80)}`;
    const { stdout } = await runShell(processClient(envd, "binary"), "pwd; cat m", { cwd });

    expect(entries.map(({ path }) => path)).toEqual([
      raw,
      ...below.map((n) => `${raw}/${n}`).sort(),
    ]);
    expect(entries.find(({ name }) => name === "l")?.symlinkTarget).toBe(raw);
    expect([bytes.entry?.name, bytes.entry?.size]).toEqual([byte(0xc3), 1n]);
    expect(stdout).toEqual(
      Buffer.concat([
        Buffer.from(`${dir}/raw/ü`),
        Buffer.from([0xff]),
        Buffer.from("/"),
        Buffer.from([0x80]),
        Buffer.from("\n1"),
      ]),
    );
  });

  test("shows times of any year, and those beyond 1 to 9999 as their ends", async () => {
    await shell(`mkdir ${dir}/times; mount -t tmpfs none ${dir}/times; cd ${dir}/times
      touch -d @-1.25 1969; touch -d @-99999999999999 first; touch -d @12000000000.5 2350
      touch -d @99999999999999 last; truncate -s 4E large`);
    const entries = await list(`${dir}/times`, 1);
    await shell(`umount ${dir}/times`);

    const told = entries.map(({ name, modifiedTime: time }) => [name, time?.seconds, time?.nanos]);
    expect(told.filter(([name]) => name !== "large")).toEqual([
      ["1969", -2n, 750_000_000],
      ["2350", 12_000_000_000n, 500_000_000],
      ["first", -62_135_596_800n, 0],
      ["last", 253_402_300_799n, 0],
    ]);
    expect(entries.find(({ name }) => name === "large")?.size).toBe(2n ** 62n);
  });

  test("reaches deeper than a path may be long", async () => {
    const name = "n".repeat(250);
    const below = (count: number) => Array(count).fill(name).join("/");
    await shell(`mkdir ${dir}/deep; cd ${dir}/deep; mkdir -p ${below(10)} inner/${below(9)}
      touch inner/${below(9)}/last; mv inner ${below(10)}/${name}`);

    const entries = await list(`${dir}/deep`, 30);

    expect(entries.map((entry) => entry.name)).toEqual([...Array(20).fill(name), "last"]);
  });

  test("survives entries that vanish on the way down", async () => {
    await shell(`mkdir ${dir}/changing; echo stay > ${dir}/changing/stays`);
    const names = ["a", "b", "c"].map((name) => `${dir}/changing/${name}`);
    const changing = runShell(
      processClient(envd, "binary"),
      `while [ ! -e ${dir}/enough ]; do mkdir -p ${names.map((n) => `${n}/1/2/3`).join(" ")}
        rm -rf ${names.join(" ")}; ln -s . ${names[1]}; rm ${names[1]}; done`,
    );
    try {
      for (let i = 0; i < Math.ceil(400 / PACE); i++) {
        const entries = await list(`${dir}/changing`, 5);
        expect(entries.at(-1)?.name).toBe("stays");
      }
    } finally {
      await shell(`touch ${dir}/enough`);
      await changing;
    }
  });
});

describe("stat", () => {
  test("tells everything about a file", async () => {
    await shell(
      `cd ${dir}; printf 12345 > file; chmod 640 file; chown nobody file; touch -d '2001-02-03T04:05:06.5Z' file`,
    );

    const { entry } = await client.stat({ path: `${dir}/file` });
    expect(entry).toMatchObject({
      name: "file",
      type: FileType.FILE,
      path: `${dir}/file`,
      size: 5n,
      mode: 0o640,
      permissions: "-rw-r-----",
      owner: "nobody",
      group: "root",
      modifiedTime: { seconds: 981173106n, nanos: 500_000_000 },
    });
    expect(entry?.symlinkTarget).toBeUndefined();
  });

  test("shows a link's target and, of it, type and mode", async () => {
    await shell(
      `mkdir ${dir}/real && chmod 711 ${dir}/real && ln -s real ${dir}/link && ln -s nowhere ${dir}/dangling`,
    );

    const link = await client.stat({ path: `${dir}/link` });
    const dangling = await client.stat({ path: `${dir}/dangling` });
    expect(link.entry).toMatchObject({
      type: FileType.DIRECTORY,
      mode: 0o711,
      size: 4n,
      permissions: "Lrwxrwxrwx",
      symlinkTarget: `${dir}/real`,
    });
    expect(dangling.entry?.type).toBe(FileType.UNSPECIFIED);
  });

  test("of nothing is not found", async () => {
    expect(await failureOf(client.stat({ path: `${dir}/nothing` }))).toEqual({
      code: "not_found",
      message: `path '${dir}/nothing' does not exist`,
    });
  });

  test("takes relative paths from the requested user's home", async () => {
    const { entry } = await client.stat({ path: "." }, asUser("root"));

    expect(entry?.path).toBe("/root");
  });
});

describe("makeDir", () => {
  test("makes all that is missing, for the user", async () => {
    const { entry } = await client.makeDir({ path: `${dir}/a/b/c` }, asUser("nobody"));

    expect(entry).toMatchObject({ path: `${dir}/a/b/c`, owner: "nobody", mode: 0o755 });
    expect(await shell(`stat -c %U ${dir}/a`)).toBe("nobody\n");
  });

  test("tells an existing directory from a file in the way", async () => {
    await shell(`mkdir -p ${dir}/there; touch ${dir}/taken`);

    expect([
      await failureOf(client.makeDir({ path: `${dir}/there` })),
      await failureOf(client.makeDir({ path: `${dir}/taken` })),
      await failureOf(client.makeDir({ path: `${dir}/taken/below` })),
    ]).toEqual([
      { code: "already_exists", message: `directory '${dir}/there' already exists` },
      { code: "invalid_argument", message: `path '${dir}/taken' is a file` },
      { code: "invalid_argument", message: `path '${dir}/taken' is a file` },
    ]);
  });
});

describe("move", () => {
  test("makes directories above the destination and replaces a file", async () => {
    await shell(`echo 1 > ${dir}/source; mkdir -p ${dir}/m; echo 2 > ${dir}/m/old`);

    await client.move({ source: `${dir}/source`, destination: `${dir}/m/n/new` });
    const { entry } = await client.move({ source: `${dir}/m/n/new`, destination: `${dir}/m/old` });

    expect(entry?.path).toBe(`${dir}/m/old`);
    expect(await shell(`cat ${dir}/m/old; ls ${dir}/m`)).toBe("1\nn\nold\n");
  });

  test("of nothing, into itself or over a full directory is refused", async () => {
    await shell(`mkdir -p ${dir}/full/x ${dir}/moved`);
    const move = async (source: string, destination: string) =>
      (await failureOf(client.move({ source: dir + source, destination: dir + destination }))).code;

    expect([
      await move("/nothing", "/else"),
      await move("/moved", "/moved/inside"),
      await move("/moved", "/full"),
    ]).toEqual(["not_found", "invalid_argument", "already_exists"]);
  });
});

describe("listDir", () => {
  beforeAll(() =>
    shell(
      `mkdir -p ${dir}/list/b/deep/er; cd ${dir}/list; touch a z b/one b/deep/two; ln -s b c; ln -s list ../alias`,
    ),
  );
  const pathsOf = async (path: string, depth = 0) =>
    (await client.listDir({ path, depth })).entries.map((entry) => entry.path.replace(dir, ""));

  test("walks in order, as deep as asked, and not through links", async () => {
    expect(await pathsOf(`${dir}/list`)).toEqual(["/list/a", "/list/b", "/list/c", "/list/z"]);
    expect(await pathsOf(`${dir}/list`, 2)).toEqual([
      "/list/a",
      "/list/b",
      "/list/b/deep",
      "/list/b/one",
      "/list/c",
      "/list/z",
    ]);
    expect(await pathsOf(`${dir}/list`, 100)).toContain("/list/b/deep/two");
  });

  test("of a link to a directory keeps the path asked for", async () => {
    expect(await pathsOf(`${dir}/alias`)).toContain("/alias/a");
  });

  test("of a file or of nothing is refused", async () => {
    expect([
      await failureOf(client.listDir({ path: `${dir}/list/a` })),
      await failureOf(client.listDir({ path: `${dir}/list/nothing` })),
    ]).toEqual([
      { code: "invalid_argument", message: `path '${dir}/list/a' is not a directory` },
      { code: "not_found", message: `path '${dir}/list/nothing' does not exist` },
    ]);
  });
});

describe("remove", () => {
  test("takes trees, links only themselves, and what is not there", async () => {
    await shell(
      `mkdir -p ${dir}/tree/sub ${dir}/kept; touch ${dir}/tree/sub/f ${dir}/kept/f; ln -s ../kept ${dir}/tree/link`,
    );

    await client.remove({ path: `${dir}/tree` });
    await client.remove({ path: `${dir}/tree` });

    expect(await shell(`ls ${dir}/kept; ls -d ${dir}/tree`)).toBe("f\n");
  });
});

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}
