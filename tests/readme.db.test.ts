// What README.md says of people, teams and keys, as it stands there.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { ControlPlane, PASSWORD } from "./harness/control-plane.ts";
import { cloneDatabase } from "./harness/database.ts";

const README = join(import.meta.dirname, "../README.md");

test("the first account invites somebody, who joins; a scoped key works until it is revoked", async () => {
  await using database = await cloneDatabase();
  await using program = await ControlPlane.start(database.url);
  await program.person("dev@example.com");
  const env = {
    ...{ WRENN_BASE_URL: program.url, WRENN_ADMIN_EMAIL: "dev@example.com" },
    WRENN_ADMIN_PASSWORD: PASSWORD,
  };
  const lines = Object.entries(env).map(([name, value]) => `export ${name}='${value}'`);
  await Bun.write(join(program.dir, ".dev/env"), lines.join("\n"));

  const readme = await Bun.file(README).text();
  const chapter = /^## People, teams, keys$(.*?)^## /ms.exec(readme)?.[1] ?? "";
  const script = [...chapter.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block).join("");
  const shell = Bun.spawn(["bash", "-euo", "pipefail", "-c", script], {
    ...{ cwd: program.dir, stdio: ["ignore", "pipe", "pipe"] },
  });
  const [told, errors] = await Promise.all([shell.stdout.text(), shell.stderr.text()]);

  expect([await shell.exited, errors]).toEqual([0, ""]);
  const answers = told.split("\n").filter((line) => line !== "");
  expect(answers.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ email: "dev@example.com", is_admin: true }),
    expect.objectContaining({ email: "grace@example.com", role: "member" }),
    expect.objectContaining({ email: "grace@example.com", role: "member", is_admin: false }),
    [],
    expect.objectContaining({ error: expect.objectContaining({ reason: "auth_scope_missing" }) }),
    expect.objectContaining({ error: expect.objectContaining({ reason: "auth_invalid_api_key" }) }),
  ]);
}, 60_000);
