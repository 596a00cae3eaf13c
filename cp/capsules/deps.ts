// What the rules of capsules need from the rest of the control plane.

import type { OperationDeps, OperationStarter } from "../operations/deps.ts";
import type { EnvdTokens } from "./envd-tokens.ts";

/** What a create means that does not say. */
export interface CapsuleDefaults {
  /** A template's name. */
  readonly template: string;
  readonly vcpus: number;
  readonly memoryMb: number;
}

export interface CapsuleStarter extends OperationStarter {
  readonly envdTokens: EnvdTokens;
  readonly defaults: CapsuleDefaults;
}

export interface CapsuleDeps extends CapsuleStarter, OperationDeps {}
