// Methods of the service that make capsules from capsules.

import type { ServiceImpl } from "@connectrpc/connect";
import type { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { type ForkParts, forkCapsule, snapshotCapsule } from "../capsules/copies.ts";
import { AgentError } from "../errors.ts";
import type { MemoryTemplates } from "../templates/memory-templates.ts";
import { type LifecycleDeps, toStarted } from "./lifecycle-methods.ts";
import { parseFork, parseSnapshot, parseTemplateIds } from "./requests.ts";
import { toConnectError } from "./rpc-errors.ts";

type CopyMethod = "createSnapshot" | "deleteSnapshot" | "forkSandbox";

/** Throws ConnectErrors only. */
export function copyMethods(
  deps: LifecycleDeps & ForkParts & { readonly templates: MemoryTemplates },
): Pick<ServiceImpl<typeof HostAgentService>, CopyMethod> {
  const answer = async <T>(method: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw toConnectError(error, method, deps.log);
    }
  };

  return {
    createSnapshot: (request) =>
      answer("CreateSnapshot", async () => {
        const made = await snapshotCapsule(deps, parseSnapshot(request));
        const { sizeBytes, vcpus, memoryMib } = made;
        return { name: request.name, sizeBytes: BigInt(sizeBytes), vcpus, memoryMb: memoryMib };
      }),
    deleteSnapshot: (request) =>
      answer("DeleteSnapshot", async () => {
        await deps.templates.remove(parseTemplateIds(request));
        return {};
      }),
    forkSandbox: (request) =>
      answer("ForkSandbox", async () => {
        const forks = await forkCapsule(deps, parseFork(request));
        return {
          results: forks.map(({ id, result }) => {
            if (result instanceof AgentError) {
              return { sandboxId: id, errorCode: result.code, errorMessage: result.message };
            }
            const { hostIp, metadata } = toStarted(result, deps);
            return { sandboxId: id, hostIp, metadata };
          }),
        };
      }),
  };
}
