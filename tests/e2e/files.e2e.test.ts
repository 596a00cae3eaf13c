// Files of a capsule, through the public API, in a real microVM.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { apiError, type Capsule, Client } from "../harness/client.ts";
import { adminClient, platform } from "../harness/platform.ts";

const BOOT_TIMEOUT_MS = 120_000;
const SLOW_TIMEOUT_MS = 240_000;

let client: Client;
let capsule: Capsule;

beforeAll(async () => {
  client = await adminClient();
  capsule = await client.create({ template: "minimal-debian", vcpus: 1, memory_mb: 512 });
}, BOOT_TIMEOUT_MS);

afterAll(async () => {
  await client.destroy(capsule.id);
}, BOOT_TIMEOUT_MS);

test("an empty file and a file of all byte values survive the round trip", async () => {
  const bytes = Uint8Array.from({ length: 4096 }, (_, i) => i % 256);

  await client.write(capsule.id, "/home/wrenn-user/empty", "");
  await client.write(capsule.id, "/home/wrenn-user/new/parents/bytes", bytes);

  expect(await client.read(capsule.id, "/home/wrenn-user/empty")).toEqual(new Uint8Array());
  expect(await client.read(capsule.id, "/home/wrenn-user/new/parents/bytes")).toEqual(bytes);
});

test(
  "100 MB survive the round trip",
  async () => {
    const bytes = new Uint8Array(100 * 1000 * 1000);
    for (let i = 0; i < bytes.length; i += 65_536) {
      crypto.getRandomValues(bytes.subarray(i, Math.min(i + 65_536, bytes.length)));
    }

    await client.write(capsule.id, "/home/wrenn-user/big", bytes);
    const back = await client.read(capsule.id, "/home/wrenn-user/big");

    expect(back.length).toBe(bytes.length);
    expect(Bun.hash(back)).toBe(Bun.hash(bytes));
    await client.remove(capsule.id, "/home/wrenn-user/big");
  },
  SLOW_TIMEOUT_MS,
);

test(
  "more than 100 MiB in one write is 413",
  async () => {
    const bytes = new Uint8Array(100 * 1024 * 1024 + 1);

    expect(await apiError(client.write(capsule.id, "/home/wrenn-user/huge", bytes))).toMatchObject({
      status: 413,
      code: "too_large",
    });
  },
  SLOW_TIMEOUT_MS,
);

test.each([
  "with space",
  "naïve ☃ 漢字",
  "quote'\"`$",
  "percent%20+and?query#hash",
  "-leading-dash",
  "semi;colon,comma",
  `${"x".repeat(255)}`,
  "..hidden..",
])("a file may be named %p", async (name) => {
  await client.mkdir(capsule.id, "/home/wrenn-user/names").catch(() => undefined);
  const path = `/home/wrenn-user/names/${name}`;

  await client.write(capsule.id, path, name);

  expect(new TextDecoder().decode(await client.read(capsule.id, path))).toBe(name);
  expect(
    (await client.listFiles(capsule.id, "/home/wrenn-user/names")).map((e) => e.name),
  ).toContain(name);
  await client.remove(capsule.id, path);
});

test("a listing tells files, directories, symlinks and permissions apart", async () => {
  await client.sh(
    capsule.id,
    "mkdir -p /home/wrenn-user/tree/sub && cd /home/wrenn-user/tree && printf hello > file && chmod 640 file && " +
      "ln -s file link && ln -s /nowhere dangling && sudo chown root file",
  );

  const entries = await client.listFiles(capsule.id, "/home/wrenn-user/tree");
  const byName = new Map(entries.map((entry) => [entry.name, entry]));

  expect([...byName.keys()].sort()).toEqual(["dangling", "file", "link", "sub"]);
  expect(byName.get("file")).toMatchObject({
    type: "file",
    path: "/home/wrenn-user/tree/file",
    size: 5,
    mode: 0o640,
    permissions: "-rw-r-----",
    owner: "root",
  });
  expect(byName.get("sub")).toMatchObject({
    type: "directory",
    permissions: "drwxr-xr-x",
    owner: "wrenn-user",
  });
  expect(byName.get("link")).toMatchObject({ symlink_target: "/home/wrenn-user/tree/file" });
});

test("relative paths and ~ are the home directory of the default user, whose they are", async () => {
  await client.write(capsule.id, "relative.txt", "r");
  await client.write(capsule.id, "~/tilde.txt", "t");

  expect(await client.read(capsule.id, "/home/wrenn-user/relative.txt")).toEqual(
    new Uint8Array([114]),
  );
  expect(await client.read(capsule.id, "/home/wrenn-user/tilde.txt")).toEqual(
    new Uint8Array([116]),
  );
  const { stdout } = await client.sh(capsule.id, "stat -c '%U %G' relative.txt tilde.txt");
  expect(stdout).toBe("wrenn-user wrenn-user\n".repeat(2));
});

test("what the default user may not do is 403, and root's to do", async () => {
  const may = async (of: Client) =>
    Promise.all(
      [
        of.write(capsule.id, "/etc/issue", "x"),
        of.write(capsule.id, "/root/new/file", "x"),
        of.read(capsule.id, "/etc/shadow"),
        of.listFiles(capsule.id, "/root"),
        of.mkdir(capsule.id, `/opt/${crypto.randomUUID()}`),
        of.remove(capsule.id, "/etc/issue.net"),
      ].map((call) =>
        call.then(
          () => "done",
          ({ status, code }) => `${status} ${code}`,
        ),
      ),
    );
  const { baseUrl, account } = await platform();
  const root = new Client(`${baseUrl}/compat/0.1`, { "x-api-key": account.apiKey });

  expect(await may(client)).toEqual(Array(6).fill("403 forbidden"));
  expect((await client.listFiles(capsule.id, "/", 2)).map(({ path }) => path)).toContain("/root");
  expect(await may(root)).toEqual(Array(6).fill("done"));
});

test("writing through a symlink writes its target", async () => {
  await client.sh(capsule.id, "cd /home/wrenn-user && printf old > target && ln -sf target alias");

  await client.write(capsule.id, "/home/wrenn-user/alias", "new");

  expect((await client.sh(capsule.id, "cat /home/wrenn-user/target")).stdout).toBe("new");
});

test("what is missing is 404, what exists already is 409, a directory is no file", async () => {
  const missing = { status: 404, code: "not_found" };
  expect(await apiError(client.read(capsule.id, "/home/wrenn-user/missing"))).toMatchObject(
    missing,
  );
  expect(await apiError(client.listFiles(capsule.id, "/home/wrenn-user/missing"))).toMatchObject(
    missing,
  );
  expect(await apiError(client.remove(capsule.id, "/home/wrenn-user/missing"))).toMatchObject(
    missing,
  );

  await client.mkdir(capsule.id, "/home/wrenn-user/made/deep");
  expect(await apiError(client.mkdir(capsule.id, "/home/wrenn-user/made/deep"))).toMatchObject({
    status: 409,
    code: "conflict",
  });
  expect(await apiError(client.read(capsule.id, "/home/wrenn-user/made"))).toMatchObject({
    status: 400,
  });
  expect(await apiError(client.write(capsule.id, "/home/wrenn-user/made", "x"))).toMatchObject({
    status: 400,
  });
});

test("a directory is removed with what is in it", async () => {
  await client.write(capsule.id, "/home/wrenn-user/doomed/a/b", "x");

  await client.remove(capsule.id, "/home/wrenn-user/doomed");

  expect(await apiError(client.listFiles(capsule.id, "/home/wrenn-user/doomed"))).toMatchObject({
    status: 404,
  });
});
