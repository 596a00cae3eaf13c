// One capsule from create to destroy, through the public API, in a real microVM.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { apiError, type Capsule, Client } from "../harness/client.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { waitFor } from "../harness/wait-for.ts";

const BOOT_TIMEOUT_MS = 120_000;

let client: Client;
let capsule: Capsule;

beforeAll(async () => {
  client = await adminClient();
  capsule = await client.create({ template: "minimal-debian", vcpus: 1, memory_mb: 512 });
}, BOOT_TIMEOUT_MS);

afterAll(async () => {
  await client.destroy(capsule.id);
}, BOOT_TIMEOUT_MS);

describe("create", () => {
  test("answers with a running capsule of the shape that was asked for", async () => {
    expect(capsule.id).toMatch(/^cl-[0-9a-z]{25}$/);
    expect(capsule).toMatchObject({
      status: "running",
      template: "minimal-debian",
      vcpus: 1,
      memory_mb: 512,
    });
    expect(await client.get(capsule.id)).toMatchObject({ id: capsule.id, status: "running" });
    expect((await client.list()).map((c) => c.id)).toContain(capsule.id);
  });

  test("the guest has the memory and the processor that were asked for, and a disk of 5 GiB", async () => {
    const { stdout } = await client.sh(
      capsule.id,
      "nproc; awk '/MemTotal/ {print $2}' /proc/meminfo; df -k / | awk 'NR==2 {print $2}'",
    );
    const [cpus, memoryKib, diskKib] = stdout.trim().split("\n").map(Number);

    expect(cpus).toBe(1);
    expect(memoryKib).toBeGreaterThan(400 * 1024);
    expect(memoryKib).toBeLessThanOrEqual(512 * 1024);
    expect(diskKib).toBeGreaterThan(4.5 * 1024 * 1024);
  });

  test("the clock of the guest is that of the host", async () => {
    const before = Date.now();
    const { stdout } = await client.sh(capsule.id, "date +%s%3N");
    const after = Date.now();

    expect(Number(stdout)).toBeGreaterThan(before - 1_000);
    expect(Number(stdout)).toBeLessThan(after + 1_000);
  });
});

describe("exec", () => {
  test("a Python program's output, error output and exit code come back apart", async () => {
    const program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)";

    const result = await client.exec(capsule.id, { cmd: "python3", args: ["-c", program] });

    expect(result).toMatchObject({
      stdout: "out\n",
      stderr: "err\n",
      exit_code: 3,
      encoding: "utf-8",
    });
  });

  test("arguments arrive as given, without a shell in between", async () => {
    const args = ["a b", "", "$HOME", "it's", 'say "hi"', "naïve ☃ 漢字", "-n", "*", "line\nbreak"];
    const program = "import sys, json; print(json.dumps(sys.argv[1:]))";

    const { stdout } = await client.exec(capsule.id, {
      cmd: "python3",
      args: ["-c", program, ...args],
    });

    expect(JSON.parse(stdout)).toEqual(args);
  });

  test("output that is not UTF-8 comes back as base64, byte for byte", async () => {
    const program = "import sys; sys.stdout.buffer.write(bytes(range(256)))";

    const result = await client.exec(capsule.id, { cmd: "python3", args: ["-c", program] });

    expect(result.encoding).toBe("base64");
    expect(Buffer.from(result.stdout, "base64")).toEqual(
      Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
    );
  });

  test("ten megabytes of output arrive whole", async () => {
    const program =
      "import sys; line = b'0123456789abcdef' * 64\nfor i in range(10 * 1024): sys.stdout.buffer.write(line)";

    const result = await client.exec(capsule.id, {
      cmd: "python3",
      args: ["-c", program],
      timeout_sec: 120,
    });

    expect(result.exit_code).toBe(0);
    expect(result.stdout.length).toBe(10 * 1024 * 1024);
    expect(result.stdout).toBe("0123456789abcdef".repeat(640 * 1024));
  }, 180_000);

  test("environment, directory and user are those that were asked for", async () => {
    const { stdout } = await client.sh(capsule.id, "echo $GREETING; pwd; id -un; echo $HOME", {
      envs: { GREETING: "hallo wörld" },
      cwd: "/usr/share",
      user: "root",
    });

    expect(stdout).toBe("hallo wörld\n/usr/share\nroot\n/root\n");
  });

  test("without a user it is wrenn-user at home, with HOME and PATH set, who may sudo", async () => {
    const { stdout } = await client.sh(
      capsule.id,
      "id -un; pwd; echo $HOME; command -v python3; command -v git; sudo -n id -un",
    );

    const home = "/home/wrenn-user";
    expect(stdout).toBe(`wrenn-user\n${home}\n${home}\n/usr/bin/python3\n/usr/bin/git\nroot\n`);
  });

  test("below the first clients' base path it is root in /root, for files as well", async () => {
    const { baseUrl, account } = await platform();
    const first = new Client(`${baseUrl}/compat/0.1`, { "x-api-key": account.apiKey });

    await first.write(capsule.id, "first.txt", "1");
    const { stdout } = await first.sh(capsule.id, "id -un; pwd; stat -c '%U %n' /root/first.txt");

    expect(stdout).toBe("root\n/root\nroot /root/first.txt\n");
    expect(await first.read(capsule.id, "~/first.txt")).toEqual(new Uint8Array([0x31]));
  });

  test("a command that does not exist ends with 127 and says so", async () => {
    const result = await client.exec(capsule.id, { cmd: "no-such-command" });

    expect(result.exit_code).toBe(127);
    expect(result.stderr).toContain("no-such-command");
  });

  test("a directory that does not exist is refused by name", async () => {
    const error = await apiError(client.sh(capsule.id, "true", { cwd: "/nowhere" }));

    expect(error).toMatchObject({ status: 400, code: "invalid_request" });
    expect(error.message).toContain("/nowhere");
  });

  test("a timeout kills the whole process group and answers what was printed so far", async () => {
    const line = "echo started; sh -c 'sleep 300' & sleep 301";

    const error = await apiError(client.sh(capsule.id, line, { timeout_sec: 2 }));

    expect(error).toMatchObject({ status: 504, code: "exec_timeout" });
    expect(error.body).toMatchObject({ stdout: "started\n", stderr: "", encoding: "utf-8" });
    expect(Number(error.body.duration_ms)).toBeGreaterThanOrEqual(1_900);
    const { stdout } = await client.sh(capsule.id, "ps -eo args | grep -c '[s]leep 30[01]'");
    expect(stdout.trim()).toBe("0");
  });

  test("a program that a signal ends reports -1", async () => {
    const result = await client.sh(capsule.id, "kill -KILL $$");

    expect(result.exit_code).toBe(-1);
  });

  test("the duration covers the time the program took", async () => {
    const { duration_ms } = await client.sh(capsule.id, "sleep 1");

    expect(duration_ms).toBeGreaterThanOrEqual(900);
  });

  test("a missing cmd, a NUL byte and a timeout out of bounds are refused by field", async () => {
    const path = `/v1/capsules/${capsule.id}/exec`;
    for (const [field, body] of [
      ["cmd", {}],
      ["cmd", { cmd: "a\0b" }],
      ["args", { cmd: "echo", args: ["a\0b"] }],
      ["timeout_sec", { cmd: "true", timeout_sec: 1e9 }],
    ] as const) {
      const error = await apiError(client.json("POST", path, body));
      expect(error).toMatchObject({ status: 400, code: "invalid_request" });
      expect(error.message).toContain(field);
    }
  });
});

describe("background processes", () => {
  test("one is started with a tag, listed, and killed by its tag", async () => {
    const path = `/v1/capsules/${capsule.id}`;
    const started = await client.json<{ pid: number; tag: string }>("POST", `${path}/exec`, {
      cmd: "sleep",
      args: ["600"],
      background: true,
      tag: "napper",
    });

    expect(started.tag).toBe("napper");
    expect(await processes()).toContainEqual({
      pid: started.pid,
      tag: "napper",
      cmd: "sleep",
      args: ["600"],
    });

    await client.json("DELETE", `${path}/processes/napper?signal=SIGTERM`);
    await waitFor("the end of the process", processes, { holds: (all) => all.length === 0 });
  });

  test("one without a tag gets one, and is killed by its pid", async () => {
    const path = `/v1/capsules/${capsule.id}`;
    const started = await client.json<{ pid: number; tag: string }>("POST", `${path}/exec`, {
      cmd: "sleep",
      args: ["601"],
      background: true,
    });
    expect(started.tag).toMatch(/^proc-[0-9a-f]{8}$/);

    await client.json("DELETE", `${path}/processes/${started.pid}`);
    await waitFor("the end of the process", processes, { holds: (all) => all.length === 0 });
  });

  test("killing an unknown process is 404", async () => {
    const path = `/v1/capsules/${capsule.id}/processes/no-such-tag`;

    expect(await apiError(client.json("DELETE", path))).toMatchObject({
      status: 404,
      code: "not_found",
    });
  });

  async function processes(): Promise<unknown[]> {
    const path = `/v1/capsules/${capsule.id}/processes`;
    return (await client.json<{ processes: unknown[] }>("GET", path)).processes;
  }
});

describe("destroy", () => {
  test(
    "a destroyed capsule stays known as stopped, and refuses work with 409",
    async () => {
      const short = await client.create({ memory_mb: 256 });

      await client.destroy(short.id);

      expect(await client.get(short.id)).toMatchObject({ status: "stopped" });
      expect((await client.list()).map((c) => c.id)).not.toContain(short.id);
      expect(await apiError(client.sh(short.id, "true"))).toMatchObject({
        status: 409,
        code: "invalid_state",
      });
      await client.destroy(short.id);
    },
    BOOT_TIMEOUT_MS,
  );
});
