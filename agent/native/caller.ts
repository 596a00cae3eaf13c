// Makes a native call on a lane and turns its failure into an error.
import type { Lane } from "./lane.ts";
import type { Answer, Argument, FunctionName } from "./library.ts";
import { check } from "./syscall-error.ts";

// An explanation of nft is a few lines; a list that outgrew its buffer is not worth more either.
const DETAIL_MAX = 2000;

export interface Call {
  /** What is done, for the error: "create netns \"x\"". */
  readonly operation: string;
  readonly name: FunctionName;
  readonly args: readonly Argument[];
}

/** Throws SyscallError if the function fails. */
export async function callOn(lane: Lane, call: Call): Promise<Answer> {
  const reply = await lane.run({ kind: "call", name: call.name, args: call.args });
  if (reply.kind === "failed") throw new Error(`${call.operation}: ${reply.message}`);
  if (reply.kind !== "answer") throw new Error("unreachable: a call is answered by an answer");
  check(call.operation, reply.answer.result, reply.answer.text.slice(0, DETAIL_MAX).trim());
  return reply.answer;
}

/** The lines of a list that the library writes, each ended by a newline. */
export function splitLines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}
