// GET and POST /files as its clients see them.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { signatureOf } from "../../envd/files/signature.ts";
import { runShell } from "./command.ts";
import { type Envd, MOMENT_MS, openEnvd, PACE, processClient } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

const IDENTITY = { "accept-encoding": "identity" };

let envd: Envd;
let dir: string;
beforeAll(async () => {
  envd = await openEnvd();
  dir = `/tmp/envd-files-${crypto.randomUUID()}`;
});
afterAll(async () => {
  await shell(`rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

describe("an octet stream", () => {
  test("comes back byte for byte, with missing directories made", async () => {
    const path = `${dir}/new/deep/ü 1`;
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));

    const written = await upload(path, bytes);
    const read = await download(path, IDENTITY);

    expect(await written.json()).toEqual([{ path, name: "ü 1", type: "file" }]);
    expect(read.headers.get("content-length")).toBe("60000");
    expect(await read.bytes()).toEqual(bytes);
    expect(await shell(`stat -c '%a %U' ${dir}/new ${dir}/new/deep/*`)).toBe(
      "755 root\n644 root\n",
    );
  });

  test("of nothing makes an empty file", async () => {
    await upload(`${dir}/empty`, new Uint8Array());

    const response = await download(`${dir}/empty`, IDENTITY);
    expect([response.status, response.headers.get("content-length")]).toEqual([200, "0"]);
  });

  test("that is large arrives whole, and is sent whole", async () => {
    const block = crypto.getRandomValues(new Uint8Array(65_536));
    const blocks = Math.ceil(1600 / PACE);
    const body = new ReadableStream({
      pull(controller) {
        if (sent++ < blocks) controller.enqueue(block);
        else controller.close();
      },
    });
    let sent = 0;
    const hash = new Bun.CryptoHasher("sha1");
    for (let i = 0; i < blocks; i++) hash.update(block);
    const expected = hash.digest("hex");

    await upload(`${dir}/large`, body);
    const received = new Bun.CryptoHasher("sha1");
    for await (const chunk of (await download(`${dir}/large`, IDENTITY)).body ?? [])
      received.update(chunk);

    expect(await shell(`sha1sum < ${dir}/large`)).toBe(`${expected}  -\n`);
    expect(received.digest("hex")).toBe(expected);
    await shell(`rm ${dir}/large`);
  });

  test("belongs to the user named, and goes on to when another one replaces it", async () => {
    await upload(`${dir}/replaced`, Buffer.from("long content"), { username: "nobody" });
    await upload(`${dir}/replaced`, Buffer.from("short"));

    expect(await shell(`cat ${dir}/replaced; stat -c ' %U' ${dir}/replaced`)).toBe(
      "short nobody\n",
    );
  });

  test("may be compressed", async () => {
    const body = gzipSync(Buffer.alloc(500_000, "gz"));
    await upload(`${dir}/inflated`, body, {}, { "content-encoding": "gzip" });

    expect(await shell(`wc -c < ${dir}/inflated`)).toBe("500000\n");
  });

  test("follows links to files", async () => {
    await shell(`mkdir -p ${dir} && echo old > ${dir}/target && ln -s target ${dir}/link`);
    await upload(`${dir}/link`, Buffer.from("new"));

    expect(await shell(`cat ${dir}/target; readlink ${dir}/link`)).toBe("newtarget\n");
  });

  test("is refused for directories, pipes, bad compression, missing paths and other types", async () => {
    await shell(`mkdir -p ${dir}/d && mkfifo ${dir}/pipe && echo x > ${dir}/file`);
    const form = { "content-type": "text/plain" };
    const gzip = { "content-encoding": "gzip" };
    const answers = [
      await upload(`${dir}/d`, Buffer.from("x")),
      await upload(`${dir}/pipe`, Buffer.from("x")),
      await upload(`${dir}/file/below`, Buffer.from("x")),
      await upload(`${dir}/bad.gz`, Buffer.from("no gzip"), {}, gzip),
      await upload("", Buffer.from("x")),
      await upload(`${dir}/x`, Buffer.from("x"), {}, form),
      await upload(`${dir}/x`, Buffer.from("x"), { username: "no-such-user" }),
    ];

    expect(await Promise.all(answers.map(messageOf))).toEqual([
      `400 path '${dir}/d' is a directory`,
      `400 path '${dir}/pipe' is no regular file`,
      `400 path '${dir}/file' is a file`,
      "400 body: is no valid gzip stream",
      "400 path: is required",
      "400 content type 'text/plain' is neither multipart/form-data nor application/octet-stream",
      "401 user 'no-such-user' does not exist",
    ]);
  });
});

describe("a form", () => {
  test("writes its parts named file, each where its name says", async () => {
    const form = new FormData();
    form.append("file", new File(["one"], `${dir}/form/a`));
    form.append("note", "ignored");
    form.append("file", new File([new Uint8Array(300_000)], `${dir}/form/b c`));

    const response = await post(form);

    expect(await response.json()).toEqual([
      { path: `${dir}/form/a`, name: "a", type: "file" },
      { path: `${dir}/form/b c`, name: "b c", type: "file" },
    ]);
    expect(await shell(`cat ${dir}/form/a; wc -c < '${dir}/form/b c'`)).toBe("one300000\n");
  });

  test("with a path in the query writes there, and only once", async () => {
    const form = new FormData();
    form.append("file", new File(["1"], "ignored"));
    const once = await post(form, { path: `${dir}/chosen` });
    form.append("file", new File(["2"], "ignored too"));
    const twice = await post(form, { path: `${dir}/chosen` });

    expect(await once.json()).toEqual([{ path: `${dir}/chosen`, name: "chosen", type: "file" }]);
    expect(await messageOf(twice)).toBe(
      `400 you cannot upload multiple files to the same path '${dir}/chosen' in one upload request`,
    );
  });

  test("that is cut off is refused", async () => {
    const body =
      '--x\r\nContent-Disposition: form-data; name="file"; filename="/tmp/envd-cut"\r\n\r\nabc';
    const response = await fetch(url({}), {
      method: "POST",
      body,
      headers: { ...access(), "content-type": "multipart/form-data; boundary=x" },
    });

    expect(await messageOf(response)).toBe(
      "400 multipart body: the body ends before its last delimiter",
    );
    await shell("rm -f /tmp/envd-cut");
  });

  test.each([
    ["behind a file", "\r\n--x"],
    ["in the head of the next part", "\r\n--x\r\nContent-Disp"],
    ["in its last delimiter", "\r\n--x-"],
  ])("that is cut off %s leaves the old file", async (_, end) => {
    const path = `${dir}/form-kept`;
    await upload(path, Buffer.from("old"));
    const head = `--x\r\nContent-Disposition: form-data; name="file"; filename="${path}"\r\n\r\n`;
    const response = await fetch(url({}), {
      method: "POST",
      body: `${head}new${end}`,
      headers: { ...access(), "content-type": "multipart/form-data; boundary=x" },
    });

    expect(response.status).toBe(400);
    expect(await shell(`cat ${path}`)).toBe("old");
  });
});

describe("a download", () => {
  beforeAll(() => upload(`${dir}/alphabet`, Buffer.from("abcdefghijklmnopqrstuvwxyz")));
  const get = (headers: Record<string, string>) =>
    download(`${dir}/alphabet`, { ...IDENTITY, ...headers });

  test("gives ranges", async () => {
    const answers = await Promise.all(
      ["bytes=0-3", "bytes=20-", "bytes=-2", "bytes=25-100", "bytes=3-1", "lines=1-2"].map(
        async (range) => {
          const response = await get({ range });
          return [response.status, response.headers.get("content-range"), await response.text()];
        },
      ),
    );

    const whole = [200, null, "abcdefghijklmnopqrstuvwxyz"];
    expect(answers).toEqual([
      [206, "bytes 0-3/26", "abcd"],
      [206, "bytes 20-25/26", "uvwxyz"],
      [206, "bytes 24-25/26", "yz"],
      [206, "bytes 25-25/26", "z"],
      whole,
      whole,
    ]);
    expect((await get({ range: "bytes=26-" })).status).toBe(416);
  });

  test("is conditional on tag and time", async () => {
    const first = await get({});
    const etag = first.headers.get("etag") ?? "";
    const modified = first.headers.get("last-modified") ?? "";
    const statusOf = async (headers: Record<string, string>) => (await get(headers)).status;

    expect([
      await statusOf({ "if-none-match": etag }),
      await statusOf({ "if-none-match": '"other"' }),
      await statusOf({ "if-modified-since": modified }),
      await statusOf({ "if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT" }),
      await statusOf({ range: "bytes=0-1", "if-range": etag }),
      await statusOf({ range: "bytes=0-1", "if-range": '"other"' }),
    ]).toEqual([304, 200, 304, 200, 206, 200]);
  });

  test("is compressed for who takes it, and refused for who takes nothing", async () => {
    const gzip = await download(`${dir}/alphabet`, { "accept-encoding": "gzip" });
    const none = await get({ "accept-encoding": "identity;q=0" });

    expect([gzip.headers.get("content-encoding"), gzip.headers.get("vary")]).toEqual([
      "gzip",
      "Accept-Encoding",
    ]);
    expect(await gzip.text()).toBe("abcdefghijklmnopqrstuvwxyz");
    expect(none.status).toBe(406);
  });

  test("is announced with its length, however large", async () => {
    await shell(`truncate -s 3000000 ${dir}/announced`);
    const headers = { ...access(), ...IDENTITY };
    for (const method of ["HEAD", "GET"]) {
      const response = await fetch(url({ path: `${dir}/announced` }), { method, headers });

      expect([response.status, response.headers.get("content-length")]).toEqual([200, "3000000"]);
      expect((await response.bytes()).length).toBe(method === "GET" ? 3000000 : 0);
    }
  });

  test("of files that say they are empty and are not is complete", async () => {
    const response = await download("/proc/self/status", IDENTITY);

    expect(await response.text()).toContain("VmRSS:");
  });

  test("names what is missing, a directory, or not readable", async () => {
    await shell(`mkdir -p ${dir}/somewhere; ln -sfn loop ${dir}/loop`);
    const answers = [
      await download(`${dir}/nothing`),
      await download(`${dir}/somewhere`),
      await download(`${dir}/loop`),
      await download("/dev/null"),
      await download("~nobody/x"),
    ];

    expect(await Promise.all(answers.map(messageOf))).toEqual([
      `404 path '${dir}/nothing' does not exist`,
      `400 path '${dir}/somewhere' is a directory`,
      `400 path '${dir}/loop' has too many links`,
      "400 path '/dev/null' is no regular file",
      "400 path: '~nobody/x': ~name is not supported",
    ]);
  });

  test("that shrinks on its way fails at once", async () => {
    // More than what lies between the file and a client that does not read.
    const sizeBytes = 64 * 1024 * 1024;
    await shell(`truncate -s ${sizeBytes} ${dir}/shrinking`);
    const response = await download(`${dir}/shrinking`, IDENTITY);
    const reader = response.body?.getReader();
    await reader?.read();
    await shell(`truncate -s 1M ${dir}/shrinking`);

    const rest = async () => {
      for (;;) if ((await reader?.read())?.done) return "whole";
    };
    const late = Bun.sleep(20_000 * PACE).then(() => "late");
    expect(await Promise.race([rest().catch(() => "broken off"), late])).toBe("broken off");
  });
});

describe("an upload that breaks off", () => {
  const send = async (path: string, body: string, headers: string[]) => {
    const { hostname, port } = new URL(envd.baseUrl);
    const socket = connect({ host: hostname, port: Number(port) });
    const head = [
      `POST /files?${new URLSearchParams({ path })} HTTP/1.1`,
      `Host: ${hostname}`,
      `X-Access-Token: ${envd.token}`,
      ...headers,
      "\r\n",
    ];
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    await new Promise<void>((resolve) => socket.write(head.join("\r\n") + body, () => resolve()));
    // Long enough for envd to look at the path and to wait for more.
    await Bun.sleep(MOMENT_MS);
    socket.destroy();
    await Bun.sleep(MOMENT_MS);
  };
  const plain = ["Content-Type: application/octet-stream", "Content-Length: 1000000"];

  test("before its content leaves the file that was there as it was", async () => {
    await shell(`mkdir -p ${dir}; cd ${dir}; echo old > kept; chown nobody kept`);
    await Promise.all([
      send(`${dir}/kept`, "", plain),
      send(`${dir}/kept`, "no gzip", [...plain, "Content-Encoding: gzip"]),
      send(`${dir}/never`, "", plain),
    ]);

    expect(await shell(`cd ${dir}; cat kept; stat -c %U kept; ls never`)).toBe("old\nnobody\n");
  });

  test("in its content leaves what was there too, and no part of a new file", async () => {
    const chunked = ["Content-Type: application/octet-stream", "Transfer-Encoding: chunked"];
    await shell(`mkdir -p ${dir}/cut; cd ${dir}/cut; echo old > replaced; ln -sfn replaced named`);
    await Promise.all([
      send(`${dir}/cut/part`, "new", plain),
      send(`${dir}/cut/chunks`, "3\r\nnew\r\n", chunked),
      send(`${dir}/cut/named`, "new", plain),
    ]);

    expect(await shell(`cd ${dir}/cut; ls -A; cat replaced`)).toBe("named\nreplaced\nold\n");
  });
});

test("a signed URL stands in for the token", async () => {
  await upload(`${dir}/signed`, Buffer.from("signed"));
  const path = `${dir}/signed`;
  const { token } = envd;
  const signature = signatureOf({ path, operation: "read", user: "", token, expiration: null });

  const good = await fetch(url({ path, signature }));
  const write = await fetch(url({ path, signature }), { method: "POST", body: "x" });
  const none = await fetch(url({ path }));

  expect(await good.text()).toBe("signed");
  expect([await messageOf(write), await messageOf(none)]).toEqual([
    "401 invalid signature",
    "401 missing signature query parameter",
  ]);
});

function access(): Record<string, string> {
  return { "x-access-token": envd.token };
}

function url(query: Record<string, string>): string {
  return `${envd.baseUrl}/files?${new URLSearchParams(query)}`;
}

function upload(
  path: string,
  body: Bun.BodyInit,
  query: Record<string, string> = {},
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(url({ path, ...query }), {
    method: "POST",
    body,
    headers: { ...access(), "content-type": "application/octet-stream", ...headers },
  });
}

function post(form: FormData, query: Record<string, string> = {}): Promise<Response> {
  return fetch(url(query), { method: "POST", body: form, headers: access() });
}

function download(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url({ path }), { headers: { ...access(), ...headers } });
}

async function messageOf(response: Response): Promise<string> {
  const { code, message } = (await response.json()) as { code: number; message: string };
  expect(code).toBe(response.status);
  return `${code} ${message}`;
}

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}
