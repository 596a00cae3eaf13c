// What a request may do to files: what envd may, which is root, or only what its user may.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { ENVD_RIGHTS_HEADER } from "../../proto/envd-routes.ts";
import { failureOf, runShell } from "./command.ts";
import { asUser, type Envd, filesystemClient, openEnvd, PACE, processClient } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

const RIGHTS = { [ENVD_RIGHTS_HEADER]: "user" };

let envd: Envd;
let dir: string;
beforeAll(async () => {
  envd = await openEnvd();
  dir = `/tmp/envd-rights-${crypto.randomUUID()}`;
  await shell(`mkdir -p ${dir}/own ${dir}/closed/in; cd ${dir}; echo s > secret; echo s > closed/in/x
    echo o > own/file; chmod 600 secret; chmod 700 closed; chown -R nobody own`);
});
afterAll(async () => {
  await shell(`rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

test("a user's rights are what counts where a request says so", async () => {
  expect(await outcomes("nobody", RIGHTS)).toEqual([
    ...["GET 403", "GET 403", "POST 403", "POST 403"],
    ...["permission_denied", "permission_denied", "permission_denied", "permission_denied"],
  ]);
  expect(await file("GET", `${dir}/own/file`, { user: "nobody", headers: RIGHTS })).toBe("GET 200");
  expect(await file("POST", `${dir}/own/file`, { user: "nobody", headers: RIGHTS })).toBe(
    "POST 200",
  );
});

test("a list shows no more of a tree than its user may see", async () => {
  const list = async (headers: Record<string, string>) => {
    const options = { headers: { ...asUser("nobody").headers, ...headers } };
    const { entries } = await filesystemClient(envd, "json").listDir(
      { path: dir, depth: 3 },
      options,
    );
    return entries.map(({ path }) => path.slice(dir.length + 1));
  };

  expect(await list(RIGHTS)).toEqual(["closed", "own", "own/file", "secret"]);
  expect(await list({})).toContain("closed/in/x");
});

test("otherwise, and for root, everything may be done", async () => {
  const done = [...Array(2).fill("GET 200"), ...Array(2).fill("POST 200"), ...Array(2).fill("")];

  expect(await outcomes("root", RIGHTS)).toEqual([...done, "", ""]);
  await shell(
    `mkdir ${dir}/own ${dir}/closed/in; echo s > ${dir}/closed/in/x; rm -r ${dir}/new ${dir}/moved`,
  );
  expect(await outcomes("nobody", {})).toEqual([...done, "", ""]);
});

/** How each thing that one may want to do to files of root's went. */
async function outcomes(user: string, headers: Record<string, string>): Promise<string[]> {
  const client = filesystemClient(envd, "json");
  const options = { headers: { ...asUser(user).headers, ...headers } };
  const of = async (work: Promise<unknown>) => (await failure(work)).code;
  return [
    await file("GET", `${dir}/secret`, { user, headers }),
    await file("GET", `${dir}/closed/in/x`, { user, headers }),
    await file("POST", `${dir}/secret`, { user, headers }),
    await file("POST", `${dir}/new/file`, { user, headers }),
    await of(client.listDir({ path: `${dir}/closed` }, options)),
    await of(client.makeDir({ path: `${dir}/made-${crypto.randomUUID()}` }, options)),
    await of(client.move({ source: `${dir}/own`, destination: `${dir}/moved` }, options)),
    await of(client.remove({ path: `${dir}/closed/in` }, options)),
  ];
}

async function failure(work: Promise<unknown>): Promise<{ code: string }> {
  return await work.then(
    () => ({ code: "" }),
    () => failureOf(work),
  );
}

async function file(
  method: "GET" | "POST",
  path: string,
  { user, headers }: { user: string; headers: Record<string, string> },
): Promise<string> {
  const response = await fetch(
    `${envd.baseUrl}/files?${new URLSearchParams({ path, username: user })}`,
    {
      method,
      ...(method === "POST" ? { body: "new" } : {}),
      headers: {
        ...headers,
        "x-access-token": envd.token,
        "content-type": "application/octet-stream",
      },
    },
  );
  await response.text();
  return `${method} ${response.status}`;
}

async function shell(script: string): Promise<void> {
  await runShell(processClient(envd, "binary"), script);
}
