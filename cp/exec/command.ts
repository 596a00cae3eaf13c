// Commands and processes in a capsule, as the control plane knows them.

export interface Command {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly envs: Readonly<Record<string, string>>;
  /** Empty: the user's home. */
  readonly cwd: string;
  /** Empty: the capsule's default user. */
  readonly user: string;
}

/** How a foreground command ended. */
export interface CommandEnd {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  /** -1 when a signal ended it. */
  readonly exitCode: number;
  readonly durationMs: number;
  /** It was killed after this time; null when it ended by itself. */
  readonly killedAfterSec: number | null;
}

export interface RunningProcess {
  readonly pid: number;
  /** Empty when it has none. */
  readonly tag: string;
  readonly cmd: string;
  readonly args: readonly string[];
}

export type ProcessSelector =
  | { readonly case: "pid"; readonly value: number }
  | { readonly case: "tag"; readonly value: string };
