// What the rules of capsules need from the rest of the control plane.

import type { OperationDeps, OperationStarter } from "../operations/deps.ts";
import type { EnvdTokens } from "./envd-tokens.ts";

export interface CapsuleStarter extends OperationStarter {
  readonly envdTokens: EnvdTokens;
  /** Name of the template that a create without one means. */
  readonly defaultTemplate: string;
}

export interface CapsuleDeps extends CapsuleStarter, OperationDeps {}
