// Why an address can't be reached or listened at, in words for whoever set it.

const REACH: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nobody listens there",
  ECONNRESET: "what listens there hangs up",
  EHOSTUNREACH: "there is no way to it",
  ENETUNREACH: "there is no way to it",
  ENOTFOUND: "there is no host of that name",
  EAI_AGAIN: "its name can't be looked up",
  ETIMEDOUT: "it does not answer in time",
  TimeoutError: "it does not answer in time",
};

const LISTEN: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program has it",
  EADDRNOTAVAIL: "this machine has no such address",
  EACCES: "this user may not",
  EPERM: "this user may not",
};

/** Null: the error is none of reaching somebody. */
export function reachFailure(error: unknown): string | null {
  return reasonOf(REACH, error);
}

/** A sentence that names the setting and what is wrong with its address. */
export function listenFailure(setting: string, address: string, cause: unknown): Error {
  const reason = reasonOf(LISTEN, cause) ?? "there is no such address on this machine";
  return new Error(`${setting}: ${address} can't be listened at: ${reason}`, { cause });
}

function reasonOf(reasons: Readonly<Record<string, string>>, error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const code = "code" in error ? String(error.code) : error.name;
  return reasons[code] ?? reasons[error.name] ?? null;
}
