// What a capsule is: everything needed to build it, and to take it up again after a restart.

import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

/** As the journal keeps it; the fields are checked where a request comes in. */
const CapsuleSpec = Type.Object({
  /** cl-… */
  id: Type.String(),
  /** UUID of the create that made it. */
  operationId: Type.String(),
  vcpus: Type.Integer(),
  memoryMib: Type.Integer(),
  diskMib: Type.Integer(),
  /** Seconds without activity after which the capsule may be paused; 0 never. */
  timeoutSec: Type.Integer(),
  teamId: Type.String(),
  templateId: Type.String(),
  templateTeamId: Type.String(),
  /** Empty: envd's own. */
  defaultUser: Type.String(),
  defaultEnvs: Type.Record(Type.String(), Type.String()),
  accessToken: Type.String(),
  /** Of the host's disk and network, in the units of their names; 0, or none at all: the host's own. */
  shares: Type.Optional(
    Type.Object({
      ...{ diskReadMibps: Type.Integer(), diskWriteMibps: Type.Integer() },
      ...{ diskReadIops: Type.Integer(), diskWriteIops: Type.Integer() },
      ...{ networkInMbitps: Type.Integer(), networkOutMbitps: Type.Integer() },
    }),
  ),
});
export type CapsuleSpec = Static<typeof CapsuleSpec>;

/** Throws if the text is not what `JSON.stringify` made of a spec. */
export function parseSpec(text: string): CapsuleSpec {
  return Value.Parse(CapsuleSpec, JSON.parse(text));
}
