// How a call failed, as tests compare it.

import { Code, ConnectError } from "@connectrpc/connect";

/** The name of the code, or "none" when the call succeeded. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await failureOf(call)).code;
}

/** The code, and what the agent says it is about. */
export async function failureOf(call: Promise<unknown>) {
  try {
    await call;
    return { code: "none", reason: null };
  } catch (error) {
    const failure = ConnectError.from(error);
    return { code: Code[failure.code] ?? "none", reason: failure.metadata.get("wrenn-reason") };
  }
}
