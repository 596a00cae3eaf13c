// The RPCs of filesystem.Filesystem that tell of changes.

import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import {
  EventType,
  type Filesystem,
  type FilesystemEventSchema,
  type WatchDirResponseSchema,
} from "../../proto/gen/envd/filesystem_pb.js";
import { EnvdError } from "../errors.ts";
import { keepaliveMsOf, orSilence } from "../keepalive.ts";
import { resolvePath } from "../paths.ts";
import { requestedUser } from "../process/environment.ts";
import type { Change, DirectoryWatch, Watches } from "./directory-watch.ts";
import { type EntryDeps, entryOf } from "./entry.ts";
import { PolledWatchers } from "./polled-watchers.ts";
import type { FilesystemDeps } from "./service.ts";

export interface WatchDeps extends FilesystemDeps {
  readonly watches: Watches;
}

type WatchMethods = "watchDir" | "createWatcher" | "getWatcherEvents" | "removeWatcher";
type EventInit = MessageInitShape<typeof FilesystemEventSchema>;
type WatchDirInit = MessageInitShape<typeof WatchDirResponseSchema>;

interface WatchRequest {
  readonly path: string;
  readonly recursive: boolean;
  readonly allowNetworkMounts: boolean;
}

/** Implements the watching part of filesystem.Filesystem. */
export function watchService(deps: WatchDeps): Pick<ServiceImpl<typeof Filesystem>, WatchMethods> {
  const watchers = new PolledWatchers();
  const withEntry = new Set<string>();
  return {
    async *watchDir(request, context) {
      const { path, watch } = await openWatch(request, context, deps);
      const lookup = request.includeEntry ? deps : null;
      yield* streamOf(watch, context, (change) => eventOf(change, path, lookup));
    },

    async createWatcher(request, context) {
      const { path, watch } = await openWatch(request, context, deps);
      const watcherId = watchers.add(path, watch);
      if (request.includeEntry) withEntry.add(watcherId);
      return { watcherId };
    },

    async getWatcherEvents({ watcherId }) {
      const { path, changes } = watchers.take(watcherId);
      const lookup = withEntry.has(watcherId) ? deps : null;
      const events: EventInit[] = [];
      for (const change of changes) events.push(await eventOf(change, path, lookup));
      return { events };
    },

    removeWatcher({ watcherId }) {
      watchers.remove(watcherId);
      withEntry.delete(watcherId);
      return {};
    },
  };
}

async function openWatch(
  request: WatchRequest,
  context: HandlerContext,
  deps: WatchDeps,
): Promise<{ path: string; watch: DirectoryWatch }> {
  const user = requestedUser(context.requestHeader, deps.users, deps.settings);
  const path = resolvePath(request.path, user, deps.settings.defaultWorkdir);
  const watch = await deps.watches.open(path, {
    isRecursive: request.recursive,
    allowsNetworkMounts: request.allowNetworkMounts,
  });
  return { path, watch };
}

/** The changes until the directory goes, the deadline comes or the client leaves. */
async function* streamOf(
  watch: DirectoryWatch,
  context: HandlerContext,
  toEvent: (change: Change) => Promise<EventInit>,
): AsyncGenerator<WatchDirInit> {
  const { signal } = context;
  const close = () => watch.close();
  signal.addEventListener("abort", close);
  const keepaliveMs = keepaliveMsOf(context.requestHeader);
  try {
    yield { event: { case: "start", value: {} } };
    for (let next = watch.next(); !signal.aborted; ) {
      const change = await orSilence(next, keepaliveMs);
      if (change === null) break;
      if (change === "silence") {
        yield { event: { case: "keepalive", value: {} } };
        continue;
      }
      yield { event: { case: "filesystem", value: await toEvent(change) } };
      next = watch.next();
    }
    if (signal.aborted && signal.reason instanceof ConnectError) throw signal.reason;
  } finally {
    signal.removeEventListener("abort", close);
    watch.close();
  }
}

/** The event, with the entry as it is by then where clients expect one. */
async function eventOf(change: Change, root: string, lookup: EntryDeps | null): Promise<EventInit> {
  const { type, name } = change;
  const isThere = type !== EventType.REMOVE && type !== EventType.RENAME;
  if (lookup === null || !isThere) return { name, type };
  try {
    return { name, type, entry: await entryOf(join(root, name), lookup) };
  } catch (error) {
    // It has gone since.
    if (error instanceof EnvdError) return { name, type };
    throw error;
  }
}
