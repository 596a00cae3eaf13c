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
