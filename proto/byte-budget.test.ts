import { expect, test } from "bun:test";
import { answerInScope, untilAnswered } from "./answer-scope.ts";
import { ByteBudgets, type Payer } from "./byte-budget.ts";

const payer = (key: string, bytesMax: number): Payer => ({
  key,
  bytesMax,
  refuse: () => new Error(key),
});
const never = new AbortController().signal;

test("bytes are taken for all payers or for none, and given back once", () => {
  const budgets = new ByteBudgets();
  const all = payer("all", 100);
  const a = budgets.hold([payer("a", 60), all]);
  const b = budgets.hold([payer("b", 60), all]);

  a.take(60);
  expect(() => a.take(1)).toThrow("a");
  b.take(40);
  expect(() => b.take(1)).toThrow("all");
  expect(["a", "b", "all"].map((key) => budgets.heldFor(key))).toEqual([60, 40, 100]);

  a[Symbol.dispose]();
  a[Symbol.dispose]();
  a.take(60);
  b.take(20);
  expect(["a", "b", "all"].map((key) => budgets.heldFor(key))).toEqual([0, 60, 60]);
});

test("what a large answer holds is given back with its last piece", async () => {
  const budgets = new ByteBudgets();
  const size = 1024 * 1024;
  const answer = await answerInScope(never, () => {
    for (const bytes of [size / 2, size / 4]) {
      const held = budgets.hold([payer("a", size)]);
      held.take(bytes);
      untilAnswered(held);
    }
    return new Response("x".repeat(size), {
      status: 201,
      headers: { "x-own": "kept", "content-type": "application/json" },
    });
  });

  const reader = answer.body?.getReader();
  const first = await reader?.read();
  const during = budgets.heldFor("a");
  let bytes = first?.value?.byteLength ?? 0;
  for (let read = await reader?.read(); read && !read.done; read = await reader?.read()) {
    bytes += read.value.byteLength;
  }

  expect([answer.status, answer.headers.get("x-own")]).toEqual([201, "kept"]);
  expect(first?.value?.byteLength).toBeLessThan(size);
  expect([bytes, during, budgets.heldFor("a")]).toEqual([size, size, 0]);
});

test("after its end a call holds nothing, whatever becomes of what it held", () => {
  const budgets = new ByteBudgets();
  const held = budgets.hold([payer("a", 10)]);
  held.take(5);
  held[Symbol.dispose]();

  held.become(7);
  held.take(1);

  expect([held.bytes, budgets.heldFor("a")]).toEqual([0, 0]);
});

test.each(["the client leaves", "reading is given up", "serving fails", "the answer is small"])(
  "what is held is given back when %s",
  async (how) => {
    const budgets = new ByteBudgets();
    const client = new AbortController();
    const bytes = how === "the answer is small" ? 1000 : 1_000_000;
    const serve = () => {
      const held = budgets.hold([payer("a", bytes)]);
      held.take(bytes);
      untilAnswered(held);
      if (how === "serving fails") throw new Error("no");
      return Response.json("x".repeat(bytes));
    };

    const answer = await answerInScope(client.signal, serve).catch(() => null);
    if (how === "the client leaves") client.abort();
    if (how === "reading is given up") await answer?.body?.cancel();

    expect(budgets.heldFor("a")).toBe(0);
  },
);
