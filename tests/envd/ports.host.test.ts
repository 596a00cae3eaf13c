// Loopback ports of a guest, reached from outside through an envd of our own.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { waitFor } from "../harness/wait-for.ts";
import { type Envd, startEnvd, WAIT_MS } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000);

/** Stands in for the guest's address: it is this machine, and yet not 127.0.0.1. */
const ADDRESS = "127.0.0.21";

let envd: Envd;
beforeAll(async () => {
  envd = await startEnvd({ address: ADDRESS });
});
afterAll(() => envd[Symbol.asyncDispose]());

async function answers(port: number): Promise<boolean> {
  return fetch(`http://${ADDRESS}:${port}/`).then(
    ({ status }) => status === 200,
    () => false,
  );
}

function canListen(port: number): boolean {
  try {
    using _server = Bun.serve({ hostname: ADDRESS, port, fetch: () => new Response() });
    return true;
  } catch {
    return false;
  }
}

for (const hostname of ["127.0.0.1", "::1"]) {
  test(`what listens on ${hostname} is reachable while it listens`, async () => {
    const body = crypto.getRandomValues(new Uint8Array(3_000_000));
    const server = Bun.serve({
      hostname,
      port: 0,
      fetch: async (request) =>
        new Response(request.method === "POST" ? await request.bytes() : ""),
    });
    const port = server.port ?? 0;
    await waitFor("an answer of the port", () => answers(port), { timeoutMs: WAIT_MS });

    const echo = await fetch(`http://${ADDRESS}:${port}/`, { method: "POST", body });
    expect(await echo.bytes()).toEqual(body);
    await server.stop(true);
    await waitFor("the end of the answers", () => answers(port), {
      holds: (isAnswer) => !isAnswer,
      timeoutMs: WAIT_MS,
    });
    // The port is free for everybody again.
    await waitFor("the address to be free", () => canListen(port), { timeoutMs: WAIT_MS });
  });
}

test("what listens on all addresses is left alone", async () => {
  using server = Bun.serve({ hostname: "0.0.0.0", port: 0, fetch: () => new Response("own") });
  await Bun.sleep(1500);

  expect(await (await fetch(`http://${ADDRESS}:${server.port}/`)).text()).toBe("own");
});
