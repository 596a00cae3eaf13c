// The queue between a process and its readers.
import { describe, expect, test } from "bun:test";
import {
  OUTPUT_EVENT_BYTES_MAX,
  OUTPUT_LAG_BYTES_MAX,
  OUTPUT_WINDOW_BYTES,
  SUBSCRIBERS_MAX,
} from "../limits.ts";
import { Output, type Subscription } from "./output.ts";

const output = () => new Output({ scrollbackBytesMax: 0 });
const bytes = (text: string) => Buffer.from(text);

async function drain(subscription: Subscription): Promise<string[]> {
  const seen: string[] = [];
  for (;;) {
    const event = await subscription.next(5);
    if (event === null) return seen;
    if (event.kind === "end") return [...seen, `end ${event.exitCode}`];
    seen.push(`${event.kind} ${Buffer.from(event.bytes)}`);
  }
}

async function hasRoom(log: Output): Promise<boolean> {
  return Promise.race([log.room().then(() => true), Bun.sleep(5).then(() => false)]);
}

describe("a reader", () => {
  test("gets everything since it came, neighbours of a kind joined, and the end", async () => {
    const log = output();
    log.append("stdout", bytes("before"));
    const reader = log.subscribe();
    log.append("stdout", bytes("a"));
    log.append("stdout", bytes("b"));
    log.append("stderr", bytes("c"));
    log.append("stdout", bytes("d"));
    log.finish({ kind: "end", exitCode: 3, signal: null });
    log.append("stdout", bytes("after"));

    expect(await drain(reader)).toEqual(["stdout ab", "stderr c", "stdout d", "end 3"]);
    expect(await drain(log.subscribe())).toEqual(["end 3"]);
  });

  test("waits for what comes", async () => {
    const log = output();
    const next = log.subscribe().next(1000);
    log.append("stdout", bytes("late"));

    expect(await next).toMatchObject({ kind: "stdout" });
  });

  test("that is slower than another gets all of it, and what all have is not kept", async () => {
    const log = output();
    const [slow, fast] = [log.subscribe(), log.subscribe()];
    log.append("stdout", bytes("a"));
    log.append("stderr", bytes("b"));

    expect(await drain(fast)).toEqual(["stdout a", "stderr b"]);
    expect(await drain(slow)).toEqual(["stdout a", "stderr b"]);
    expect(log.take(0)).toBe(null);
  });

  test("gets events that have a bound, and there are as many readers as there may be", async () => {
    const log = output();
    const readers = Array.from({ length: SUBSCRIBERS_MAX }, () => log.subscribe());
    expect(() => log.subscribe()).toThrow("readers already");
    for (const reader of readers.slice(1)) reader.close();
    for (const size of [OUTPUT_EVENT_BYTES_MAX - 1, 1, 1]) {
      log.append("stdout", new Uint8Array(size));
    }

    expect((await drain(log.subscribe())).length).toBe(0);
    expect((await drain(readers[0] ?? log.subscribe())).map(({ length }) => length)).toEqual([
      OUTPUT_EVENT_BYTES_MAX + "stdout ".length,
      1 + "stdout ".length,
    ]);
  });

  test("that is closed gets nothing more", async () => {
    const log = output();
    const reader = log.subscribe();
    const next = reader.next(1000);
    reader.close();
    log.append("stdout", bytes("x"));

    expect([await next, await reader.next(5)]).toEqual([null, null]);
  });
});

describe("room", () => {
  const half = new Uint8Array(OUTPUT_WINDOW_BYTES / 2);

  test("is there without readers, and while one is less than a window behind", async () => {
    const log = output();
    for (let i = 0; i < 10; i++) log.append("stdout", half);
    expect(await hasRoom(log)).toBe(true);
    const reader = log.subscribe();
    log.append("stdout", half);
    expect(await hasRoom(log)).toBe(true);
    log.append("stdout", half);
    expect(await hasRoom(log)).toBe(false);
    await drain(reader);
    expect(await hasRoom(log)).toBe(true);
  });

  test("comes back when the only reader leaves", async () => {
    const log = output();
    const reader = log.subscribe();
    log.append("stdout", half);
    log.append("stdout", half);
    const room = log.room();
    reader.close();

    expect(await room).toBeUndefined();
  });

  test("is decided by the fastest reader; one too far behind is told so", async () => {
    const log = output();
    const [fast, slow] = [log.subscribe(), log.subscribe()];
    for (let sent = 0; sent <= OUTPUT_LAG_BYTES_MAX; sent += half.length) {
      expect(await hasRoom(log)).toBe(true);
      log.append("stdout", half);
      await drain(fast);
    }

    expect(slow.next(5)).rejects.toThrow("bytes behind another one");
    expect(await hasRoom(log)).toBe(true);
  });
});

describe("scrollback", () => {
  const terminal = () => new Output({ scrollbackBytesMax: 12 });

  test("goes before what is new, for who wants it", async () => {
    const log = terminal();
    log.append("pty", bytes("past"));
    const [with_, without] = [log.subscribe({ wantsScrollback: true }), log.subscribe()];
    log.append("pty", bytes("new"));

    expect(await drain(with_)).toEqual(["pty past", "pty new"]);
    expect(await drain(without)).toEqual(["pty new"]);
  });

  test("is bounded, and begins with a line when its beginning is lost", async () => {
    const log = terminal();
    for (const text of ["lost", "a\\x1b", "[0m\nline", "more"]) log.append("pty", bytes(text));

    expect(await drain(log.subscribe({ wantsScrollback: true }))).toEqual(["pty line", "pty more"]);
  });

  test("of an ended process is still there", async () => {
    const log = terminal();
    log.append("pty", bytes("past"));
    log.finish({ kind: "end", exitCode: 0, signal: null });

    expect(await drain(log.subscribe({ wantsScrollback: true }))).toEqual(["pty past", "end 0"]);
  });
});
