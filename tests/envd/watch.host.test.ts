// Watches of filesystem.Filesystem, streamed and polled, as their clients see them.
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import type { Client } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import type { Filesystem, FilesystemEvent } from "../../proto/gen/envd/filesystem_pb.js";
import { EventType } from "../../proto/gen/envd/filesystem_pb.js";
import { waitFor } from "../harness/wait-for.ts";
import { codeName, failureOf, runShell } from "./command.ts";
import {
  type Envd,
  filesystemClient,
  IS_SHORT,
  openEnvd,
  PACE,
  processClient,
  WAIT_MS,
} from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

let envd: Envd;
let client: Client<typeof Filesystem>;
let dir: string;
beforeAll(async () => {
  envd = await openEnvd();
  client = filesystemClient(envd, "json");
});
afterAll(() => envd[Symbol.asyncDispose]());
beforeEach(async () => {
  dir = `/tmp/envd-watch-${crypto.randomUUID()}`;
  await shell(`mkdir -p ${dir}/there`);
});
afterEach(() => shell(`rm -rf ${dir}`));

describe("a watch", () => {
  test("tells of each kind of change, by names relative to the directory", async () => {
    await using watch = await openWatch({ path: dir });
    await shell(
      `cd ${dir}; echo 1 > new; chmod 600 new; mv new moved; rm moved; echo 2 > there/inner`,
    );
    await shell(`touch ${dir}/last`);

    expect(await watch.until("CREATE last")).toEqual([
      "CREATE new",
      "WRITE new",
      "CHMOD new",
      "RENAME new",
      "CREATE moved",
      "REMOVE moved",
      "CREATE last",
    ]);
  });

  test("tells of an upload when it is there, and of one over a file as written", async () => {
    await shell(`echo old > ${dir}/old; echo shown > '${dir}/#1'`);
    await using watch = await openWatch({ path: dir });
    for (const name of ["new", "old"]) await upload(`${dir}/${name}`, "content");
    await shell(`cd ${dir}; chmod 600 '#1'; touch last`);

    expect(await watch.until("CREATE last")).toEqual([
      "CREATE new",
      "WRITE new",
      "WRITE old",
      "CHMOD #1",
      "CREATE last",
    ]);
  });

  test("of a directory whose name is no text tells names that are none", async () => {
    const byte = String.fromCharCode(0xefff);
    await shell(`mkdir "$(printf ${dir}/'\\377')"`);
    await using watch = await openWatch({ path: `${dir}/${byte}`, recursive: true });
    await shell(`cd ${dir}/[!t]*; mkdir "$(printf '\\377')"; cd [!t]*; : > last`);

    expect(await watch.until(`CREATE ${byte}/last`)).toEqual([
      `CREATE ${byte}`,
      `CREATE ${byte}/last`,
    ]);
  });

  test("that is recursive follows directories as they appear, move and go", async () => {
    await using watch = await openWatch({ path: dir, recursive: true });
    await shell(
      `cd ${dir}; mkdir -p a/b/c && : > a/b/c/f; mv a z; : > z/b/c/g; mkdir a; : > a/again`,
    );
    await shell(`rm -r ${dir}/z; : > ${dir}/there/last`);

    const seen = await watch.until("CREATE there/last");
    expect(seen.filter((event) => event.startsWith("CREATE")).toSorted()).toEqual(
      ["a", "a", "a/again", "a/b", "a/b/c", "a/b/c/f", "there/last"]
        .concat(["z", "z/b", "z/b/c", "z/b/c/f", "z/b/c/g"])
        .map((name) => `CREATE ${name}`),
    );
    expect(seen.filter((event) => /^(RENAME|REMOVE)/.test(event))).toEqual(
      [
        "RENAME a",
        "REMOVE z/b/c/f",
        "REMOVE z/b/c/g",
        "REMOVE z/b/c",
        "REMOVE z/b",
        "REMOVE z",
      ].toSorted((one, other) => seen.indexOf(one) - seen.indexOf(other)),
    );
  });

  test("loses nothing of a burst", async () => {
    await using watch = await openWatch({ path: dir, recursive: true });
    const count = Math.ceil(50 / PACE);
    await shell(
      `cd ${dir}; for i in $(seq ${count}); do mkdir -p d$i/e
        for j in $(seq 20); do : > d$i/e/$j; done; done; : > last`,
    );

    const created = (await watch.until("CREATE last")).filter((event) =>
      event.startsWith("CREATE"),
    );
    expect([created.length, new Set(created).size]).toEqual([count * 22 + 1, count * 22 + 1]);
  });

  test("carries the entry when asked, where there still is one", async () => {
    await using watch = await openWatch({ path: dir, includeEntry: true });
    await shell(`cd ${dir}; printf 12345 > file; mv file ..; rm ../file; touch last`);
    await watch.until("CREATE last");

    const last = watch.events.at(-1);
    const moved = watch.events.find(({ type }) => type === EventType.RENAME);
    expect(last?.entry).toMatchObject({ path: `${dir}/last`, permissions: "-rw-r--r--" });
    expect(moved?.entry).toBeUndefined();
  });

  test("ends when its directory goes, or at its deadline", async () => {
    await using watch = await openWatch({ path: `${dir}/there` });
    await shell(`rmdir ${dir}/there`);
    expect(await watch.until("REMOVE .")).toEqual(["REMOVE ."]);

    const short = client.watchDir({ path: dir }, { timeoutMs: 300 });
    const drain = async () => {
      for await (const _event of short);
    };
    expect((await failureOf(drain())).code).toBe("deadline_exceeded");
  });

  test("says that it lives", async () => {
    const stream = client.watchDir({ path: dir }, { headers: { "keepalive-ping-interval": "1" } });
    const cases: (string | undefined)[] = [];
    for await (const { event } of stream) {
      cases.push(event.case);
      if (cases.length === 2) break;
    }

    expect(cases).toEqual(["start", "keepalive"]);
  });

  test("of what is missing or no directory is refused, and there is a bound", async () => {
    await shell(`touch ${dir}/file`);
    const refusal = async (path: string) => {
      try {
        await using _watch = await openWatch({ path });
      } catch (error) {
        return codeName(ConnectError.from(error).code);
      }
      return "watched";
    };

    expect([await refusal(`${dir}/nothing`), await refusal(`${dir}/file`)]).toEqual([
      "not_found",
      "invalid_argument",
    ]);
    const ids: string[] = [];
    const fill = async () => {
      for (;;) ids.push((await client.createWatcher({ path: dir })).watcherId);
    };
    expect((await failureOf(fill())).code).toBe("resource_exhausted");
    for (const watcherId of ids) await client.removeWatcher({ watcherId });
    await waitFor("room for a watcher", () => refusal(dir), {
      holds: (code) => code === "watched",
      timeoutMs: WAIT_MS,
    });
  });

  test("is given up when its client leaves", async () => {
    await using watch = await openWatch({ path: dir });
    await watch[Symbol.asyncDispose]();

    await waitFor(
      "the end of the watch's program",
      () => shell(`pgrep -f 'watch [0-9]+ ${dir}$' || echo none`),
      { holds: (pids) => pids === "none\n", timeoutMs: WAIT_MS },
    );
  });
});

describe("a polled watcher", () => {
  test("gives each change once", async () => {
    const { watcherId } = await client.createWatcher({ path: dir, includeEntry: true });
    await shell(`: > ${dir}/one; mkdir ${dir}/two`);
    const events: FilesystemEvent[] = [];
    await waitFor(
      "the second event",
      async () => {
        events.push(...(await client.getWatcherEvents({ watcherId })).events);
        return events.map(({ name }) => name);
      },
      { holds: (names) => names.includes("two"), timeoutMs: WAIT_MS },
    );
    const more = await client.getWatcherEvents({ watcherId });
    await client.removeWatcher({ watcherId });

    expect(events.map(({ name, entry }) => [name, entry?.path])).toEqual([
      ["one", `${dir}/one`],
      ["two", `${dir}/two`],
    ]);
    expect(more.events).toEqual([]);
    expect((await failureOf(client.getWatcherEvents({ watcherId }))).code).toBe("not_found");
  });

  test.skipIf(IS_SHORT)("that nobody asks says that it lost changes, and goes on", async () => {
    const { watcherId } = await client.createWatcher({ path: dir });
    // Each is made and then changed.
    await shell(`cd ${dir}; seq 5500 | xargs touch`);
    await Bun.sleep(500 * PACE);

    expect((await failureOf(client.getWatcherEvents({ watcherId }))).code).toBe(
      "resource_exhausted",
    );
    await shell(`: > ${dir}/after`);
    await waitFor(
      "an event after the loss",
      async () => (await client.getWatcherEvents({ watcherId })).events,
      { holds: (events) => events.some(({ name }) => name === "after"), timeoutMs: WAIT_MS },
    );
    await client.removeWatcher({ watcherId });
  });
});

/** A started watch whose events are gathered. */
async function openWatch(request: { path: string; recursive?: boolean; includeEntry?: boolean }) {
  const abort = new AbortController();
  const stream = client.watchDir(request, { signal: abort.signal })[Symbol.asyncIterator]();
  const events: FilesystemEvent[] = [];
  await stream.next();
  const seen = () => events.map(({ name, type }) => `${EventType[type]} ${name}`);
  return {
    events,
    /** Everything up to and with the event, as texts. */
    async until(last: string): Promise<string[]> {
      while (seen().at(-1) !== last) {
        const { value, done } = await stream.next();
        if (done) throw new Error(`the watch ended after ${seen().join(", ")}`);
        if (value.event.case === "filesystem") events.push(value.event.value);
      }
      return seen();
    },
    async [Symbol.asyncDispose]() {
      abort.abort();
      await stream.return?.().catch(() => {});
    },
  };
}

async function upload(path: string, body: string): Promise<void> {
  const headers = { "x-access-token": envd.token, "content-type": "application/octet-stream" };
  const url = `${envd.baseUrl}/files?${new URLSearchParams({ path })}`;
  expect((await fetch(url, { method: "POST", body, headers })).status).toBe(200);
}

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}
