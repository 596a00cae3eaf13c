// What work on hosts needs from the rest of the control plane, whichever noun it is of.

import type { AgentClients } from "../agents/agent-clients.ts";
import type { Db } from "../db/client.ts";
import type { Log } from "../log.ts";
import type { TeamLimits } from "../team-limits.ts";
import type { Operations } from "./operations.ts";

/** What begins, or takes over, the work of an operation. */
export interface OperationStarter {
  readonly db: Db;
  readonly agents: AgentClients;
  readonly operations: Operations;
  readonly log: Log;
  /** Of teams of which nothing else was said. */
  readonly teamLimits: TeamLimits;
  /** A host contradicts the record: it should be looked at now. */
  readonly wakeMonitor: () => void;
}

/** What does it has to know when to leave off: others settle what is left undone. */
export interface OperationDeps extends OperationStarter {
  /** Aborts when the process must end. */
  readonly ending: AbortSignal;
}
