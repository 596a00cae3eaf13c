import { expect, test } from "bun:test";
import { answerInScope } from "../proto/answer-scope.ts";
import { waitFor } from "../tests/harness/wait-for.ts";
import { BODIES_PER_TEAM_BYTES_MAX, readJsonBody } from "./request-body.ts";

test("bodies of one team are bounded in sum until their requests are answered", async () => {
  const body = JSON.stringify("x".repeat(1_000_000));
  const fitting = Math.floor(BODIES_PER_TEAM_BYTES_MAX / (2 * body.length));
  const ended = Promise.withResolvers<void>();
  let read = 0;
  const serve = (payer: string) =>
    answerInScope(new AbortController().signal, async () => {
      const request = new Request("http://localhost/", { method: "POST", body });
      await readJsonBody({ request, payer });
      read += 1;
      await ended.promise;
    });

  const served = Array.from({ length: fitting }, () => serve("a"));
  await waitFor("all that fit", () => read, { holds: (count) => count === fitting });
  const refused = await serve("a").catch((error) => error.code);
  const other = serve("b");
  await waitFor("the other team's", () => read, { holds: (count) => count === fitting + 1 });
  ended.resolve();
  await Promise.all([...served, other]);

  expect(refused).toBe("rate_limited");
  await serve("a");
  expect(read).toBe(fitting + 2);
});

test("bodies of strangers are small, and are in nobody's way", async () => {
  const ended = Promise.withResolvers<void>();
  let read = 0;
  const serve = (body: string) =>
    answerInScope(new AbortController().signal, async () => {
      await readJsonBody({ request: new Request("http://localhost/", { method: "POST", body }) });
      read += 1;
      await ended.promise;
    });
  // More than one known sender could have.
  const small = JSON.stringify("x".repeat(10_000));
  const count = Math.ceil(BODIES_PER_TEAM_BYTES_MAX / (2 * small.length)) + 1;

  const served = Array.from({ length: count }, () => serve(small));
  await waitFor("all of them", () => read, { holds: (reads) => reads === count });
  const large = await serve(JSON.stringify("x".repeat(20_000))).catch((error) => error.code);
  ended.resolve();
  await Promise.all(served);

  expect(large).toBe("too_large");
});
