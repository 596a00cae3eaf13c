// What a timer calls has nobody above it: an exception ends the program, with all that everybody else does in it, and
// a rejection is nobody's. So each one is known here, with what keeps it from either.

import { expect, test } from "bun:test";
import { isTest, loadSources, type SourceFile } from "./sources.ts";

/** Each does one thing that cannot fail: it settles a promise, or lets something go. */
const HARMLESS =
  /^(resolve|\(\) => resolve\((null|false)\)|\(\) => [\w#.]+\.(abort|destroy)\(.*\))$/s;

/** By file, the functions that the others call, of each timer. */
const GUARDED: Readonly<Record<string, string[]>> = {
  // Work that can fail. It is done in a `try`, or its rejection is taken, and the log is told: the tests of a journal
  // that fails (journal-failure.vm, journal-writes.vm), of metrics and of loops that fail.
  "agent/capsules/expiry-timer.ts": ["capsules.expire catch log.error"],
  "agent/capsules/flush-timer.ts": ["capsules.flush capsules.removeDoomed"],
  "agent/capsules/stall-timer.ts": ["capsules.endStalls"],
  "agent/metrics/capsule-metrics.ts": ["this.sample"],

  // A query; that it fails is what is asked for.
  "cp/operations/lock-session.ts": ["this.#look"],

  // What is in memory alone.
  "agent/semaphore.ts": ["giveBack"],
  "agent/drivers/api/vmm-api.ts": ["this.#fail VmmError"],
  "agent/drivers/qemu/qmp.ts": ["this.#fail VmmError"],
  "cp/files/upload.ts": ["silence.reject AppError"],
  "cp/streams/terminal-session.ts": ["performance.now this.#socket.hasWaiting overtaken.abort"],

  // Ends a command of a guest; what that answers is awaited by nobody, and its rejection is taken.
  "agent/guest/exec.ts": ["this.#expire"],

  // Sends on a socket, which says whether it could, and throws nothing.
  "cp/streams/socket.ts": ["this.#tick", "this.#hold"],
};

const sources = (await loadSources()).filter((f) => /^(agent|cp)\//.test(f.path) && !isTest(f));

/** The first arguments of the calls. */
function callbacksOf({ text }: SourceFile): string[] {
  return [...text.matchAll(/\bset(?:Interval|Timeout)\(/g)].map(({ index, 0: call }) => {
    const from = index + call.length;
    return text.slice(from, endOfArgument(text, from)).trim();
  });
}

function calledBy(callback: string): string {
  const called = callback.match(/[\w#][\w#.]*(?=\()/g)?.filter((name) => name !== "if");
  return called?.join(" ") ?? callback;
}

function endOfArgument(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const char = text[at] ?? "";
    if (depth === 0 && char === ",") return at;
    if ("([{".includes(char)) depth += 1;
    if (")]}".includes(char)) depth -= 1;
  }
  throw new Error("unreachable: a call has an end");
}

test("nothing that a timer calls lets an exception or a rejection out", () => {
  const found = sources.flatMap((file) => {
    const callbacks = callbacksOf(file).filter((callback) => !HARMLESS.test(callback));
    return callbacks.length === 0 ? [] : [[file.path, callbacks.map(calledBy)] as const];
  });

  expect(Object.fromEntries(found)).toEqual(GUARDED);
});
