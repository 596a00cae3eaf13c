import { expect, test } from "bun:test";
import { Semaphore } from "./semaphore.ts";

const NEVER = new AbortController().signal;

test("as many enter at once as may, the others in order of their arrival", async () => {
  const queue = new Semaphore({ atOnceMax: 1, queuedMax: 8, refusal: "full" });
  const order: string[] = [];
  const turn = async (name: string) => {
    using _permit = await queue.acquire(NEVER);
    order.push(`${name} in`);
    await Bun.sleep(1);
    order.push(`${name} out`);
  };

  await Promise.all([turn("a"), turn("b"), turn("c")]);

  expect(order).toEqual(["a in", "a out", "b in", "b out", "c in", "c out"]);
});

test("who gives up leaves the queue, and the next gets the place", async () => {
  const queue = new Semaphore({ atOnceMax: 1, queuedMax: 8, refusal: "full" });
  const first = await queue.acquire(NEVER);
  const leaving = new AbortController();
  const given = queue.acquire(leaving.signal).catch((error: unknown) => error);
  const third = queue.acquire(NEVER);

  leaving.abort("gone");
  first[Symbol.dispose]();

  expect(await given).toBe("gone");
  (await third)[Symbol.dispose]();
  // The place came back: nobody waits.
  (await queue.acquire(NEVER))[Symbol.dispose]();
});

test("more than the bound are refused at once", async () => {
  const queue = new Semaphore({ atOnceMax: 1, queuedMax: 1, refusal: "full" });
  using _first = await queue.acquire(NEVER);
  void queue.acquire(NEVER);

  expect(queue.acquire(NEVER)).rejects.toThrow("full");
});
