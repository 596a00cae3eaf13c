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

test("a party with many requests makes its own wait, not those of others", async () => {
  const queue = new Semaphore({ atOnceMax: 2, queuedMax: 8, refusal: "full" });
  const order: string[] = [];
  const enter = async (party: string) => {
    const permit = await queue.acquire(NEVER, party);
    order.push(party);
    return permit;
  };
  const many = [enter("many"), enter("many"), enter("many"), enter("many")];
  const few = enter("few");

  (await many[0])?.[Symbol.dispose]();
  await few;
  expect(order).toEqual(["many", "many", "few"]);
  (await many[1])?.[Symbol.dispose]();
  await many[2];

  expect(order).toEqual(["many", "many", "few", "many"]);
});

test("a permit that is held for too long is given back, once", async () => {
  const queue = new Semaphore({ atOnceMax: 1, queuedMax: 8, refusal: "full", heldMsMax: 5 });
  const first = await queue.acquire(NEVER, "hangs");

  const second = await queue.acquire(NEVER, "waits");
  first[Symbol.dispose]();

  const third = queue.acquire(NEVER, "next");
  expect(await Promise.race([third.then(() => "at once"), "waits"])).toBe("waits");
  second[Symbol.dispose]();
  (await third)[Symbol.dispose]();
});
