// The deadline of a call and that of the process that it started are two timers, and an emulated guest may stop
// between their beginnings: here the first is far away.

import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { createHandlerContext } from "@connectrpc/connect";
import { Launcher } from "../../envd/process/launcher.ts";
import { Registry } from "../../envd/process/registry.ts";
import { processService } from "../../envd/process/service.ts";
import { Settings } from "../../envd/settings.ts";
import { Users } from "../../envd/users.ts";
import { Process, StartRequestSchema } from "../../proto/gen/envd/process_pb.js";
import { failureOf } from "./command.ts";
import { buildPrograms, PROGRAMS } from "./fixture.ts";

test("a process that its deadline killed before the call's is no process that ended", async () => {
  await buildPrograms();
  const launcher = new Launcher(PROGRAMS);
  const registry = new Registry(launcher);
  const service = processService({
    ...{ registry, launcher, users: new Users(), settings: new Settings() },
    ...{ cgroups: null, path: "/usr/bin:/bin" },
  });
  const context = createHandlerContext({
    ...{ service: Process, method: Process.method.start, protocolName: "connect" },
    ...{ requestMethod: "POST", url: "http://localhost/", timeoutMs: 600_000 },
  });
  const request = create(StartRequestSchema, {
    process: { cmd: "/bin/sleep", args: ["100"] },
    stdin: false,
  });
  const kinds: (string | undefined)[] = [];
  const drain = async () => {
    const events = service.start?.(request, { ...context, timeoutMs: () => 100 }) ?? [];
    for await (const { event } of events) kinds.push(event?.event?.case);
  };
  try {
    const failure = await failureOf(drain());

    expect(failure.code).toBe("deadline_exceeded");
    expect(kinds).toEqual(["start"]);
  } finally {
    context.abort();
    await registry.endAll();
    await launcher.close();
  }
});
