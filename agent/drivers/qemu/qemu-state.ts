// Stops, saves, loads and runs a guest through QEMU's monitor.
//
// The state goes through a descriptor (getfd, then "fd:"), since a sandboxed QEMU may start no
// program and the jail has no file to write. With x-ignore-shared the guest's RAM, which the command
// line shares, is left out: what is written is some 53 KB, whatever the size of the guest.

import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import type { DescriptorSender } from "../../native/descriptor-sender.ts";
import { VmmError } from "../../vmm/vmm.ts";
import type { QmpClient } from "./qmp.ts";

const STATE_FILE = "device-state";
const STATE_FD = "state";
// A command waits for disk requests under way; saving flushes the disk.
const COMMAND_TIMEOUT_MS = 30_000;
const SAVE_TIMEOUT_MS = 60_000;
/** Saving takes a few milliseconds in all: for as long it is asked after without a rest. */
const POLLS_WITHOUT_REST = 20;
const POLL_MS = 1;

const Done = Type.Object({});
const Status = Type.Object({ status: Type.String({ maxLength: 64 }), running: Type.Boolean() });
const Migration = Type.Object({
  status: Type.Optional(Type.String({ maxLength: 64 })),
  "error-desc": Type.Optional(Type.String({ maxLength: 4096 })),
});

export async function stopGuest(qmp: QmpClient): Promise<void> {
  await run(qmp, "stop");
}

/** After a save QEMU takes the disk back first. */
export async function continueGuest(qmp: QmpClient): Promise<void> {
  await run(qmp, "cont");
}

export async function readStatus(qmp: QmpClient): Promise<{ status: string; running: boolean }> {
  return qmp.execute("query-status", { schema: Status, timeoutMs: COMMAND_TIMEOUT_MS });
}

/** Makes QEMU know where in `dir` saveGuest is to write; the guest may run meanwhile. */
export async function prepareSave(
  qmp: QmpClient,
  options: { dir: string; sender: DescriptorSender },
): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC;
  const file = openSync(join(options.dir, STATE_FILE), flags, 0o600);
  await passFile(qmp, file, options.sender);
  await ignoreShared(qmp);
}

/**
 * Writes the stopped guest's device state to where prepareSave said on the same connection. Throws
 * VmmError; no migration goes on then.
 */
export async function saveGuest(qmp: QmpClient): Promise<void> {
  await run(qmp, "migrate", { uri: `fd:${STATE_FD}` });
  try {
    await awaitMigration(qmp, "saving");
  } catch (error) {
    await run(qmp, "migrate_cancel").catch(() => {});
    throw error;
  }
}

/** Loads the device state from `dir` into a QEMU that waits for one; its vCPUs stay stopped. */
export async function loadGuest(
  qmp: QmpClient,
  options: { dir: string; sender: DescriptorSender },
): Promise<void> {
  const file = openSync(join(options.dir, STATE_FILE), constants.O_RDONLY);
  await passFile(qmp, file, options.sender);
  await ignoreShared(qmp);
  await run(qmp, "migrate-incoming", { uri: `fd:${STATE_FD}` });
  await awaitMigration(qmp, "loading");
}

async function passFile(qmp: QmpClient, file: number, sender: DescriptorSender): Promise<void> {
  try {
    await qmp.executeWithFile("getfd", {
      args: { fdname: STATE_FD },
      schema: Done,
      timeoutMs: COMMAND_TIMEOUT_MS,
      file,
      sender,
    });
  } finally {
    closeSync(file);
  }
}

async function ignoreShared(qmp: QmpClient): Promise<void> {
  const capabilities = [{ capability: "x-ignore-shared", state: true }];
  await run(qmp, "migrate-set-capabilities", { capabilities });
}

async function awaitMigration(qmp: QmpClient, what: string): Promise<void> {
  const deadline = performance.now() + SAVE_TIMEOUT_MS;
  for (let polls = 1; ; polls++) {
    const options = { schema: Migration, timeoutMs: COMMAND_TIMEOUT_MS };
    const { status, "error-desc": reason } = await qmp.execute("query-migrate", options);
    if (status === "completed") return;
    if (status === "failed" || status === "cancelled") {
      throw new VmmError(`QEMU: ${what} ${status}: ${reason ?? "no reason given"}`);
    }
    if (performance.now() > deadline) throw new VmmError(`QEMU: ${what} takes too long`);
    if (polls > POLLS_WITHOUT_REST) await Bun.sleep(POLL_MS);
  }
}

async function run(
  qmp: QmpClient,
  command: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  await qmp.execute(command, { args, schema: Done, timeoutMs: COMMAND_TIMEOUT_MS });
}
