// The unmodified E2B client in Node, over HTTP/2, told no more than a domain and a certificate authority.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { EnvdTokens } from "../../cp/capsules/envd-tokens.ts";
import { decodeId } from "../../proto/ids.ts";
import { adminClient, platform } from "../harness/platform.ts";

const ROOT = join(import.meta.dirname, "../..");
const PROGRAM = `
  import { Sandbox } from "e2b";
  const { SANDBOX_ID: sandboxId, ENVD_TOKEN: envdAccessToken, E2B_DOMAIN: sandboxDomain } = process.env;
  const box = new Sandbox({ sandboxId, envdAccessToken, sandboxDomain, envdVersion: "0.6.13" });
  const isRunning = await box.isRunning();
  const { stdout } = await box.commands.run("echo $((6 * 7))");
  await box.files.write("/tmp/note", "kept");
  const url = await box.downloadUrl("/tmp/note");
  const signed = await (await fetch(url)).text();
  console.log(JSON.stringify({ isRunning, stdout, read: await box.files.read("/tmp/note"), signed }));
  process.exit(0);
`;

test("commands, files and signed URLs work through the proxy", async () => {
  const [client, dev] = await Promise.all([adminClient(), platform()]);
  const capsule = await client.create();
  const secrets = await Bun.file(`${dev.dir.path}/secrets.json`).json();
  const id = decodeId("capsule", capsule.id);
  if (id === null) throw new Error("no id");
  const child = Bun.spawn(["node", "--input-type=module", "-e", PROGRAM], {
    cwd: ROOT,
    env: {
      PATH: process.env.PATH ?? "",
      E2B_DOMAIN: `${dev.proxyDomain}:${dev.ports.tls}`,
      E2B_API_KEY: `e2b_${"0".repeat(40)}`,
      NODE_EXTRA_CA_CERTS: dev.caCertFile,
      SANDBOX_ID: capsule.id.replace("cl-", ""),
      ENVD_TOKEN: new EnvdTokens(Uint8Array.fromHex(secrets.encryptionKey)).of(id),
    },
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 100_000,
  });
  const output = await new Response(child.stdout).text();
  await client.destroy(capsule.id);

  expect(JSON.parse(output)).toEqual({
    isRunning: true,
    stdout: "42\n",
    read: "kept",
    signed: "kept",
  });
}, 180_000);
