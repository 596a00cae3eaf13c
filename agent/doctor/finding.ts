// What one check of the doctor found.

export interface Finding {
  /** A word or two that stay the same, for whoever reads the JSON. */
  readonly check: string;
  /** Failed: capsules do not run, not as they should, or not safely. Warning: they do, with less than could be. */
  readonly status: "ok" | "warning" | "failed";
  readonly found: string;
  /** What to do about it; null where nothing is to be done. */
  readonly remedy: string | null;
}

export function ok(check: string, found: string): Finding {
  return { check, status: "ok", found, remedy: null };
}

export function warning(check: string, found: string, remedy: string): Finding {
  return { check, status: "warning", found, remedy };
}

export function failed(check: string, found: string, remedy: string): Finding {
  return { check, status: "failed", found, remedy };
}

/** What a probe finds; that it throws is a finding, too, under the name of what was to be tested. */
export async function attempt(
  check: string,
  { remedy, probe }: { remedy: string; probe: () => Promise<Finding> },
): Promise<Finding> {
  try {
    return await probe();
  } catch (error) {
    return failed(check, sentence(error), remedy);
  }
}

/** The words of an error, without its kind. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
