// The service that the control plane calls. Each method checks its request, does one thing, and answers.

import type { ServiceImpl } from "@connectrpc/connect";
import type { EntryInfo } from "../../proto/gen/envd/filesystem_pb.js";
import type { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { FILE_WRITE_BYTES_MAX } from "../../proto/hostagent/bounds.ts";
import type { CapsuleLease } from "../capsules/capsules.ts";
import type { ForkParts } from "../capsules/copies.ts";
import { exec, startBackground } from "../guest/exec.ts";
import { entryType, listDir, makeDir, readFile, removePath, writeFile } from "../guest/files.ts";
import { listProcesses, signalProcess } from "../guest/processes.ts";
import type { Log } from "../log.ts";
import type { CapsuleMetrics } from "../metrics/capsule-metrics.ts";
import type { MemoryTemplates } from "../templates/memory-templates.ts";
import { copyMethods } from "./copy-methods.ts";
import { receiveFile, rechunk, wholeFile } from "./file-messages.ts";
import { lifecycleMethods } from "./lifecycle-methods.ts";
import { metricMethods } from "./metric-methods.ts";
import {
  parseCapsuleId,
  parseCommand,
  parseDepth,
  parseExecTimeout,
  parseFilePath,
  parseKill,
  parseTag,
} from "./requests.ts";
import { toConnectError } from "./rpc-errors.ts";
import { streamMethods } from "./stream-methods.ts";

export interface HostAgentDeps extends ForkParts {
  readonly templates: MemoryTemplates;
  readonly capsuleMetrics: CapsuleMetrics;
  /** kernel_version, vmm, vmm_version, agent_version: the same for every capsule. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Begins the end of the agent; the answer goes out first. */
  readonly terminate: (isPausing: boolean) => void;
  readonly log: Log;
}

/** Throws ConnectErrors only. */
export function hostAgentService(
  deps: HostAgentDeps,
): Partial<ServiceImpl<typeof HostAgentService>> {
  const { capsules, log } = deps;
  const answer = async <T>(method: string, work: () => Promise<T> | T): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw toConnectError(error, method, log);
    }
  };
  /** The same for what needs a running capsule, which counts as active meanwhile. */
  const withGuest = <T>(
    method: string,
    sandboxId: string,
    work: (guest: CapsuleLease["guest"]) => Promise<T>,
  ): Promise<T> =>
    answer(method, async () => {
      using lease = capsules.use(parseCapsuleId(sandboxId));
      return await work(lease.guest);
    });

  return {
    ...streamMethods(deps),
    ...metricMethods(deps),
    ...lifecycleMethods(deps),
    ...copyMethods(deps),
    pingSandbox: ({ sandboxId }) => withGuest("PingSandbox", sandboxId, async () => ({})),

    exec: (request, context) =>
      withGuest("Exec", request.sandboxId, async (guest) => {
        const timeoutMs = parseExecTimeout(request.timeoutSec);
        const options = { timeoutMs, caller: context.signal };
        const { durationMs, ...result } = await exec(guest, parseCommand(request), options);
        return { ...result, durationMs: BigInt(durationMs) };
      }),
    startBackground: (request) =>
      withGuest("StartBackground", request.sandboxId, async (guest) => {
        const tag = parseTag(request.tag);
        return { pid: await startBackground(guest, parseCommand(request), tag), tag };
      }),
    listProcesses: ({ sandboxId }) =>
      withGuest("ListProcesses", sandboxId, async (guest) => ({
        processes: (await listProcesses(guest)).map((process) => ({
          ...process,
          args: [...process.args],
        })),
      })),
    killProcess: (request) =>
      withGuest("KillProcess", request.sandboxId, async (guest) => {
        const { process, signal } = parseKill(request);
        await signalProcess(guest, process, signal);
        return {};
      }),

    writeFile: ({ sandboxId, content, ...file }) =>
      withGuest("WriteFile", sandboxId, async (guest) => {
        await writeFile(guest, parseFilePath(file), content);
        return {};
      }),
    readFile: ({ sandboxId, ...file }) =>
      withGuest("ReadFile", sandboxId, async (guest) => ({
        content: await wholeFile(readFile(guest, parseFilePath(file)), {
          bytesMax: FILE_WRITE_BYTES_MAX,
          held: guest.hold(),
        }),
      })),
    writeFileStream: (requests) =>
      answer("WriteFileStream", async () => {
        const { meta, chunks } = await receiveFile(requests);
        using lease = capsules.use(parseCapsuleId(meta.sandboxId));
        await writeFile(lease.guest, parseFilePath(meta), chunks);
        return {};
      }),
    async *readFileStream({ sandboxId, ...file }) {
      try {
        using lease = capsules.use(parseCapsuleId(sandboxId));
        const chunks = rechunk(readFile(lease.guest, parseFilePath(file)));
        for await (const chunk of chunks) yield { chunk };
      } catch (error) {
        throw toConnectError(error, "ReadFileStream", log);
      }
    },
    listDir: ({ sandboxId, depth, ...directory }) =>
      withGuest("ListDir", sandboxId, async (guest) => {
        const entries = await listDir(guest, parseFilePath(directory), parseDepth(depth));
        return { entries: entries.map(toFileEntry) };
      }),
    makeDir: ({ sandboxId, ...directory }) =>
      withGuest("MakeDir", sandboxId, async (guest) => ({
        entry: toFileEntry(await makeDir(guest, parseFilePath(directory))),
      })),
    removePath: ({ sandboxId, ...file }) =>
      withGuest("RemovePath", sandboxId, async (guest) => {
        await removePath(guest, parseFilePath(file));
        return {};
      }),

    terminate: ({ pause }) => {
      deps.terminate(pause);
      return {};
    },
  };
}

function toFileEntry(entry: EntryInfo) {
  const { name, path, size, mode, permissions, owner, group, symlinkTarget } = entry;
  return {
    name,
    path,
    type: entryType(entry),
    size,
    mode,
    permissions,
    owner,
    group,
    modifiedAt: entry.modifiedTime?.seconds ?? 0n,
    ...(symlinkTarget === undefined ? {} : { symlinkTarget }),
  };
}
