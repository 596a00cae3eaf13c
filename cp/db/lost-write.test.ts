import { expect, test } from "bun:test";
import { isLostWrite } from "./lost-write.ts";

test("a write to a connection that was just lost is told from other faults", () => {
  // As the driver does it: its timer runs when the socket is null already.
  const socket: { write(chunk: string): void } | null = JSON.parse("null");
  const write = () => (socket as { write(chunk: string): void }).write("x");

  expect(isLostWrite(caught(write))).toBe(true);
});

test("other errors are no lost write", () => {
  const missing: { end(): void } | null = JSON.parse("null");

  expect(isLostWrite(caught(() => (missing as { end(): void }).end()))).toBe(false);
  expect(isLostWrite(new Error("null is not an object (evaluating 'socket.write')"))).toBe(false);
  expect(isLostWrite("socket.write")).toBe(false);
});

function caught(work: () => void): unknown {
  try {
    work();
    return null;
  } catch (error) {
    return error;
  }
}
