// Uploads over files that are there: what is kept of them, and what is left when an upload fails.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import { join, resolve } from "node:path";
import { FileCalls } from "../../envd/files/file-calls.ts";
import { waitFor } from "../harness/wait-for.ts";
import { runShell } from "./command.ts";
import { type Envd, openEnvd, processClient, WAIT_MS } from "./fixture.ts";

// The machine may be busy with virtual machines.
setDefaultTimeout(60_000);

const calls = new FileCalls(resolve(import.meta.dir, "../../build/guest"));
const CHUNK = Buffer.alloc(64 * 1024, "n");

let envd: Envd;
let dir: string;
beforeAll(async () => {
  envd = await openEnvd();
  dir = `/var/tmp/envd-overwrite-${crypto.randomUUID()}`;
  await shell(`mkdir ${dir}`);
});
afterAll(async () => {
  await shell(`umount ${dir}/mounted ${dir}/small ${dir}/fixed; rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

describe("a file that is overwritten", () => {
  test("keeps owner, group, mode, attributes and flags, whoever uploads", async () => {
    await shell(
      `cd ${dir}; echo old > kept; chown nobody:games kept; chmod 2615 kept; chattr +d kept`,
    );
    await calls.call("set", "user.", `${dir}/kept`, "note", "mine", "e2b.author", "ada");
    const before = await shell(`cd ${dir}; stat -c '%U:%G %a' kept; lsattr kept`);

    const answers = [await upload("kept", "by root"), await upload("kept", "new", "daemon")];

    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    // As when daemon itself writes: a program does not stay set-group-ID.
    expect(await shell(`cd ${dir}; stat -c '%U:%G %a' kept; lsattr kept; cat kept`)).toBe(
      `${before.replace("2615", "615")}new`,
    );
    expect(await calls.ask(["get", "user.", `${dir}/kept`])).toEqual(["1", "note", "mine"]);
  });

  test("by way of a link stays where it is, and the link too", async () => {
    await shell(`cd ${dir}; mkdir far; echo old > far/target; ln -s far/target link`);
    await upload("link", "new");

    expect(await shell(`cd ${dir}; readlink link; cat far/target; ls -A far`)).toBe(
      "far/target\nnewtarget\n",
    );
  });

  test("keeps its other names, and its place when it is mounted", async () => {
    await shell(`cd ${dir}; echo old and longer > one; ln one other
      echo outside > outside; touch mounted; mount --bind outside mounted`);
    await upload("one", "new");
    await upload("mounted", "inside");

    expect(await shell(`cd ${dir}; cat one other; stat -c ' %h' other; cat outside`)).toBe(
      "newnew 2\ninside",
    );
  });

  test("is written as its content comes where nothing can be made beside it", async () => {
    await shell(`cd ${dir}; mkdir fixed; touch fixed/file; echo old > beyond
      mount --bind fixed fixed; mount --bind beyond fixed/file; mount -o remount,bind,ro fixed`);
    const statuses = [
      (await upload("fixed/file", "new")).status,
      (await upload("fixed/another", "new")).status,
      (await upload(`/proc/${envd.pid}/comm`, "renamed")).status,
    ];

    expect(statuses).toEqual([200, 403, 200]);
    expect(await shell(`cat ${dir}/beyond /proc/${envd.pid}/comm`)).toBe("newrenamed\n");
    await shell(`umount ${dir}/fixed/file`);
  });

  test("by several at once is that of one of them", async () => {
    const texts = Array.from({ length: 20 }, (_, i) => String(i).repeat(100_000));
    await shell(`cd ${dir}; touch linked; ln linked other-name`);
    for (const name of ["contended", "contended", "linked"]) {
      const answers = await Promise.all(texts.map((text) => upload(name, text)));

      expect(answers.map(({ status }) => status)).toEqual(texts.map(() => 200));
      const found = await shell(`cat ${dir}/${name}`);
      expect(texts.indexOf(found)).toBeGreaterThanOrEqual(0);
    }
    expect(await shell(`ls -A ${dir} | grep -c wrenn`)).toBe("0\n");
  });
});

describe("an upload that fails", () => {
  test("for want of room leaves the old file and nothing beside it", async () => {
    await shell(`cd ${dir}; mkdir small; mount -t tmpfs -o size=1M none small; cd small
      echo old > file; echo linked > one; ln one other; ln -s file link`);
    const large = "n".repeat(2_000_000);
    const answers = [
      await upload("small/file", large),
      await upload("small/link", large),
      await upload("small/one", large),
      await upload("small/new", large),
    ];

    expect(answers.map(({ status }) => status)).toEqual([507, 507, 507, 507]);
    expect(await shell(`cd ${dir}/small; cat file one other; ls -A`)).toBe(
      "old\nlinked\nlinked\nfile\nlink\none\nother\n",
    );
  });

  test("for want of room in a file with other names leaves its content", async () => {
    // There is room for the content once, beside, but not for a second time.
    await shell(`cd ${dir}/small; rm -f *; echo linked > one; ln one other`);

    expect((await upload("small/one", "n".repeat(700_000))).status).toBe(507);
    expect(await shell(`cd ${dir}/small; cat one other; ls -A`)).toBe(
      "linked\nlinked\none\nother\n",
    );
  });

  test("because its client has gone leaves the old file and nothing beside it", async () => {
    await shell(`cd ${dir}; mkdir gone; cd gone; echo old > file; echo linked > one; ln one other`);
    for (const name of ["file", "one", "new"]) {
      const sent = await sendHalf(`${dir}/gone/${name}`);
      await waitFor("open uploads", () => openUploads(envd), {
        holds: (count) => count === 1,
        timeoutMs: WAIT_MS,
      });
      sent.destroy();
      await waitFor("open uploads", () => openUploads(envd), {
        holds: (count) => count === 0,
        timeoutMs: WAIT_MS,
      });
    }

    expect(await shell(`cd ${dir}/gone; cat file one other; ls -A`)).toBe(
      "old\nlinked\nlinked\nfile\none\nother\n",
    );
  });

  test("because envd is killed leaves the old file and nothing beside it", async () => {
    await shell(
      `cd ${dir}; mkdir killed; cd killed; echo old > file; echo linked > one; ln one other`,
    );
    await using killed = await openEnvd();
    for (const name of ["file", "one", "new"]) await sendHalf(`${dir}/killed/${name}`, killed);
    await waitFor("open uploads", () => openUploads(killed), {
      holds: (count) => count === 3,
      timeoutMs: WAIT_MS,
    });
    process.kill(killed.pid ?? 0, "SIGKILL");
    await waitFor(
      "the end of envd",
      async () => !(await Bun.file(`/proc/${killed.pid}/fd/0`).exists()),
      { timeoutMs: WAIT_MS },
    );

    expect(await shell(`cd ${dir}/killed; cat file one other; ls -A`)).toBe(
      "old\nlinked\nlinked\nfile\none\nother\n",
    );
  });
});

/** Sends the first part of a longer upload, and nothing more. */
async function sendHalf(path: string, to = envd) {
  const { hostname, port } = new URL(to.baseUrl);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.on("error", () => {});
  const head = [
    `POST /files?${new URLSearchParams({ path })} HTTP/1.1`,
    `Host: ${hostname}`,
    `X-Access-Token: ${to.token}`,
    "Content-Type: application/octet-stream",
    "Content-Length: 1000000",
    "\r\n",
  ].join("\r\n");
  await new Promise<void>((resolve) => socket.once("connect", resolve));
  await new Promise<void>((resolve) => socket.write(head, () => resolve()));
  await new Promise<void>((resolve) => socket.write(CHUNK, () => resolve()));
  return socket;
}

/** Files below the directory that envd holds open for writing and that have got content. */
async function openUploads({ pid }: Envd): Promise<number> {
  const found = await shell(`cd /proc/${pid}/fd; for fd in *; do case "$(readlink $fd)" in
    ${dir}/*) [ -s $fd ] && grep '^flags:.*[12]$' ../fdinfo/$fd; esac; done | wc -l`);
  return Number(found);
}

function upload(name: string, body: string, username = "root"): Promise<Response> {
  const path = name.startsWith("/") ? name : join(dir, name);
  return fetch(`${envd.baseUrl}/files?${new URLSearchParams({ path, username })}`, {
    method: "POST",
    body,
    headers: { "x-access-token": envd.token, "content-type": "application/octet-stream" },
  });
}

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}
