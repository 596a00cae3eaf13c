import { describe, expect, test } from "bun:test";
import { filter, inputsHash, run } from "./run.ts";

describe("a program of a build", () => {
  test("gives its standard output", async () => {
    expect(await run(["sh", "-c", "echo $0 $X", "a"], { env: { X: "b" } })).toBe("a b\n");
  });

  test("that is missing is named", async () => {
    await expect(run(["no-such-program"])).rejects.toThrow("no-such-program is not installed");
  });

  test("that fails is quoted with its end", async () => {
    const noisy = run(["sh", "-c", "seq 100000 >&2; echo last words >&2; exit 3"]);

    await expect(noisy).rejects.toThrow(/^sh failed with status 3: [\s\S]{1,2000}last words$/);
  });

  test("that can't reach the archive is told apart in one sentence", async () => {
    const offline = run(["sh", "-c", "echo 'Err: x'; echo 'Could not resolve a.b' >&2; exit 1"]);

    await expect(offline).rejects.toThrow(
      /^sh can't reach the package archive: Could not resolve a\.b$/,
    );
  });

  test("sees nothing of the caller's environment that could change its output", async () => {
    const environment = await run(["env"]);

    expect(environment).not.toContain("HOME=");
  });

  test("filters bytes", async () => {
    expect(Buffer.from(await filter(["tr", "a", "b"], Buffer.from("aXa"))).toString()).toBe("bXb");
    await expect(filter(["false"], Buffer.from(""))).rejects.toThrow("false failed");
  });
});

test("the hash of inputs tells where one ends and the next begins", async () => {
  expect(await inputsHash(["ab", "c"], [])).not.toBe(await inputsHash(["a", "bc"], []));
});
