// POST /init on an envd of our own: who may, what it changes, what a replay does.
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { codeName, runShell } from "./command.ts";
import { type Envd, postInit, processClient, startEnvd } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000);

const TOKEN = "first-token";
let envd: Envd;
beforeEach(async () => {
  envd = await startEnvd();
});
afterEach(() => envd[Symbol.asyncDispose]());

const shell = async (script: string, token = TOKEN) => {
  const { stdout, error } = await runShell(processClient({ ...envd, token }, "json"), script);
  return error ? codeName(error.code) : stdout.toString();
};
const init = async (body: unknown) => (await postInit(envd, body)).status;
const now = (offsetMs = 0) => new Date(Date.now() + offsetMs).toISOString();

test("everything it sets counts for the next process", async () => {
  const status = await init({
    accessToken: TOKEN,
    envVars: { A: "1", PATH: "/bin" },
    defaultUser: "nobody",
    defaultWorkdir: "/usr",
    timestamp: now(),
    capsuleId: "cl-1",
    templateId: "tm-1",
  });

  expect(status).toBe(204);
  const names = "$A:$PATH:$WRENN_SANDBOX:$E2B_SANDBOX:$WRENN_SANDBOX_ID:$WRENN_TEMPLATE_ID";
  expect(await shell(`id -un; pwd; echo "${names}"`)).toBe(
    "nobody\n/usr\n1:/bin:true:true:cl-1:tm-1\n",
  );
  const envs = await fetch(`${envd.baseUrl}/envs`, { headers: { "x-access-token": TOKEN } });
  expect(await envs.json()).toMatchObject({ A: "1", WRENN_SANDBOX_ID: "cl-1" });
});

test("the version is told, and health answers before and after", async () => {
  const before = await fetch(`${envd.baseUrl}/health`);
  const answer = await postInit(envd, {});

  expect(await before.json()).toEqual({ version: "0.6.13" });
  expect([answer.status, answer.headers.get("x-envd-version")]).toEqual([204, "0.6.13"]);
});

describe("the token", () => {
  test("once set is needed to change anything", async () => {
    await init({ accessToken: TOKEN });
    const unknown = await postInit(envd, { accessToken: "other" });
    const none = await postInit(envd, { envVars: { A: "stolen" } });

    expect([unknown.status, none.status]).toEqual([401, 401]);
    expect(await shell("echo $A")).toBe("\n");
  });

  test("is changed by who knows the current one", async () => {
    await init({ accessToken: TOKEN });
    const changed = await fetch(`${envd.baseUrl}/init`, {
      method: "POST",
      headers: { "x-access-token": TOKEN },
      body: JSON.stringify({ accessToken: "second" }),
    });

    expect(changed.status).toBe(204);
    expect(await shell("echo ok", "second")).toBe("ok\n");
    expect(await shell("echo ok")).toBe("unauthenticated");
  });
});

test("a message that is not newer than the last one changes nothing", async () => {
  const set = (A: string, timestamp: string) =>
    init({ accessToken: TOKEN, envVars: { A }, timestamp });
  const stamp = now();

  expect([
    await set("1", stamp),
    await set("same", stamp),
    await set("older", now(-60_000)),
  ]).toEqual([204, 204, 204]);
  expect(await shell("echo $A")).toBe("1\n");
  const older = await postInit(envd, { accessToken: TOKEN, timestamp: now(-60_000) });
  expect(older.headers.get("x-envd-newest-ns")).toBe(`${BigInt(Date.parse(stamp)) * 1_000_000n}`);
  await set("2", now(1));
  expect(await shell("echo $A")).toBe("2\n");
});

test("a body with a wrong field is refused by its name and changes nothing", async () => {
  const refusal = async (body: unknown) => {
    const { code, message } = (await (await postInit(envd, body)).json()) as Record<
      string,
      unknown
    >;
    return `${code} ${message}`;
  };

  expect([
    await refusal([]),
    await refusal({ accessToken: 1 }),
    await refusal({ envVars: { A: 1 } }),
    await refusal({ envVars: { "A=B": "" } }),
    await refusal({ timestamp: "now" }),
    await refusal({ clockAdvanceUs: 0.5 }),
    await refusal({ hostname: "-bad" }),
    await refusal({ defaultUser: "no-such-user", accessToken: "x" }),
    await refusal({ defaultWorkdir: "relative" }),
  ]).toEqual([
    "400 body: must be a JSON object",
    "400 accessToken: must be a string",
    "400 envVars.A: must be a string without NUL",
    "400 envVars: 'A=B' is no variable name",
    "400 timestamp: must be an RFC 3339 time or seconds",
    "400 clockAdvanceUs: must be a whole number",
    "400 hostname: has the wrong form",
    "401 user 'no-such-user' does not exist",
    "400 defaultWorkdir: must be an absolute path",
  ]);
  expect((await fetch(`${envd.baseUrl}/metrics`)).status).toBe(200);
});

test("a body without end is refused, one that does not say its length is read", async () => {
  const streamed = (body: unknown) =>
    fetch(`${envd.baseUrl}/init`, {
      method: "POST",
      body: new Blob([JSON.stringify(body)]).stream(),
    });
  const endless = { envVars: { A: "x".repeat(2_000_000) } };

  expect([(await postInit(envd, endless)).status, (await streamed(endless)).status]).toEqual([
    413, 413,
  ]);
  expect((await streamed({ accessToken: TOKEN, envVars: { A: "1" } })).status).toBe(204);
  expect(await shell("echo $A")).toBe("1\n");
});

test("a process of the guest cannot use the control routes", async () => {
  await using guarded = await startEnvd({ controlPeer: "192.0.2.1" });

  const response = await postInit(guarded, { accessToken: "taken over" });
  expect(response.status).toBe(403);
});
