// What the rules of capsules need from the rest of the control plane.

import type { AgentClients } from "../agents/agent-clients.ts";
import type { Db } from "../db/client.ts";
import type { Log } from "../log.ts";
import type { EnvdTokens } from "./envd-tokens.ts";
import type { Operations } from "./operations.ts";

export interface CapsuleDeps {
  readonly db: Db;
  readonly agents: AgentClients;
  readonly operations: Operations;
  readonly envdTokens: EnvdTokens;
  /** Name of the template that a create without one means. */
  readonly defaultTemplate: string;
  readonly log: Log;
  /** A host contradicts the record: it should be looked at now. */
  readonly wakeMonitor: () => void;
}

/** What moves capsules has to know when to leave off: others settle what is left undone. */
export interface OperationDeps extends CapsuleDeps {
  /** Aborts when the process must end. */
  readonly ending: AbortSignal;
}
