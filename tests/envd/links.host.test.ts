// Links that users of the guest put in the way of envd, which is root.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { failureOf, runShell } from "./command.ts";
import { asUser, type Envd, filesystemClient, openEnvd, PACE, processClient } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

const RACE_MS = 2500 * Math.sqrt(PACE);

let envd: Envd;
let dir: string;
beforeAll(async () => {
  envd = await openEnvd();
  dir = `/tmp/envd-links-${crypto.randomUUID()}`;
  // What only root may change, beside what belongs to a user.
  await shell(`mkdir -p ${dir}/roots/sub ${dir}/users ${dir}/anyones; cd ${dir}
    echo secret > roots/secret; chmod 600 roots/secret; echo shown > roots/shown
    chown nobody users; chmod 1777 anyones`);
});
afterAll(async () => {
  await shell(`rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

describe("a link that a user made", () => {
  beforeAll(() => asNobody(`cd ${dir}/users; ln -s ../roots r; ln -s ../anyones a; mkdir own`));

  test("leads nowhere that the user could not write", async () => {
    const client = filesystemClient(envd, "json");
    const codeOf = async (call: Promise<unknown>) => (await failureOf(call)).code;
    await asNobody(`ln -s ${dir}/roots/new ${dir}/users/file`);

    expect([
      (await upload(`${dir}/users/r/new`, "x")).status,
      (await upload(`${dir}/users/r/shown`, "x")).status,
      (await upload(`${dir}/users/r/made/new`, "x")).status,
      (await upload(`${dir}/users/file`, "x")).status,
      await codeOf(client.makeDir({ path: `${dir}/users/r/made` })),
      await codeOf(client.remove({ path: `${dir}/users/r/shown` })),
      await codeOf(client.move({ source: `${dir}/users/own`, destination: `${dir}/users/r/x` })),
      await codeOf(client.move({ source: `${dir}/users/r/sub`, destination: `${dir}/users/x` })),
    ]).toEqual([
      403,
      403,
      403,
      403,
      ...["permission_denied", "permission_denied", "permission_denied", "permission_denied"],
    ]);
    expect(await shell(`cd ${dir}/roots; ls; cat shown`)).toBe("secret\nshown\nsub\nshown\n");
  });

  test("is read through as far as the user could", async () => {
    const shown = await download(`${dir}/users/r/shown`);
    const secret = await download(`${dir}/users/r/secret`);

    expect([await shown.text(), secret.status]).toEqual(["shown\n", 403]);
  });

  test("leads where the user may write, and itself is removed", async () => {
    const client = filesystemClient(envd, "json");
    await upload(`${dir}/users/a/new`, "by link");
    await client.remove({ path: `${dir}/users/a` });

    expect(await shell(`cd ${dir}; cat anyones/new; ls users`)).toBe("by linkfile\nown\nr\n");
  });
});

test("a link of root's leads everywhere, also for a user's request", async () => {
  await shell(`ln -s roots ${dir}/link`);
  await upload(`${dir}/link/linked`, "x", { username: "nobody" });

  expect(await shell(`cd ${dir}/roots; stat -c %U linked; rm linked`)).toBe("nobody\n");
});

test("a directory that becomes a link meanwhile redirects nothing", async () => {
  const client = filesystemClient(envd, "json");
  await asNobody(`mkdir -p ${dir}/users/race/d`);
  await shell(`mkdir -p ${dir}/roots/sub; touch ${dir}/roots/victim`);
  const before = await shell(`cd ${dir}; find roots -printf '%p %U %m %T@\\n' | sort`);
  const swapping = asNobody(
    `cd ${dir}/users/race && exec timeout ${RACE_MS / 1000} perl -e 'while (1) {
      rename "d", "real"; symlink "${dir}/roots", "d"; unlink "d"; rename "real", "d" }'`,
  );
  let done = 0;
  const until = performance.now() + RACE_MS;
  while (performance.now() < until) {
    const path = `${dir}/users/race/d`;
    const results = await Promise.allSettled([
      upload(`${path}/made`, "x", { username: "nobody" }),
      upload(`${path}/sub/made`, "x"),
      client.makeDir({ path: `${path}/directory` }, asUser("nobody")),
      client.remove({ path: `${path}/victim` }),
      client.remove({ path: `${path}/directory` }),
      client.move({ source: `${path}/made`, destination: `${path}/sub/moved` }),
    ]);
    done += results.filter(({ status }) => status === "fulfilled").length;
  }
  await swapping;

  expect(done).toBeGreaterThan(10);
  expect(await shell(`cd ${dir}; find roots -printf '%p %U %m %T@\\n' | sort`)).toBe(before);
});

async function asNobody(script: string): Promise<void> {
  await runShell(processClient(envd, "binary"), script, { ...asUser("nobody"), cwd: "/tmp" });
}

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}

function url(query: Record<string, string>): string {
  return `${envd.baseUrl}/files?${new URLSearchParams(query)}`;
}

function upload(path: string, body: string, query: Record<string, string> = {}) {
  const headers = { "x-access-token": envd.token, "content-type": "application/octet-stream" };
  return fetch(url({ path, ...query }), { method: "POST", body, headers });
}

function download(path: string) {
  return fetch(url({ path }), { headers: { "x-access-token": envd.token } });
}
