/**
 * What Cloud Hypervisor saves of a guest besides its memory: two files of JSON, kept as one.
 *
 * - It leaves out memory only where that is a file that it shares. A guest that was restored from a private mapping it
 *   would write out whole. But it writes configuration and state first (50 to 53, vmm/src/vm.rs) and then makes the
 *   memory's file, which it refuses to do if there is one: so there is one, and that refusal means that all else is
 *   written.
 * - Such a state names the ranges of memory that are in that file. None are: they are taken out, and the configuration
 *   has the memory's file mapped privately, which is how it comes back.
 * - A restore opens the initial file system that the guest booted from, and reads nothing of it: it is taken out. A
 *   restored guest's jail shows neither that nor a kernel.
 * - Whether Landlock holds it is the host's matter, where it comes back.
 */

import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { VmmError } from "../../vmm/vmm.ts";
import type { ApiRequest } from "../api/vmm-api.ts";
import { JAIL_FILE, LANDLOCK_RULE, RAM_ZONE } from "./cloud-hypervisor-command.ts";

export const CONFIG_FILE = "config.json";
export const STATE_FILE = "state.json";
/** Of memory, which is not to be written. */
export const RANGES_FILE = "memory-ranges";

export const DESCRIBE_REQUEST: ApiRequest = { method: "GET", path: "/api/v1/vm.info" };
export const PAUSE_REQUEST: ApiRequest = { method: "PUT", path: "/api/v1/vm.pause" };
export const RESUME_REQUEST: ApiRequest = { method: "PUT", path: "/api/v1/vm.resume" };
export const SAVE_REQUEST: ApiRequest = {
  method: "PUT",
  path: "/api/v1/vm.snapshot",
  body: { destination_url: `file:///vm/${JAIL_FILE.own}` },
};

/** Whether a refusal of SAVE_REQUEST says that all but the memory was written. */
export function isStateOnlySaved(reason: string): boolean {
  return reason.includes("Error creating memory snapshot file");
}

const Saved = Type.Object({ config: Type.String(), state: Type.String() });
const Config = Type.Object({
  payload: Type.Object({ kernel: Type.String(), initramfs: Type.Optional(Type.String()) }),
  memory: Type.Object({
    size: Type.Literal(0),
    zones: Type.Tuple([Type.Object({ id: Type.Literal(RAM_ZONE), shared: Type.Boolean() })]),
  }),
});
/** In a string of JSON in JSON: numbers of 64 bits around it stay as they are. */
const RANGES = /(\\"memory_ranges\\":\{\\"data\\":)\[[^\]]*\]/g;

/** The two files as one, for a guest whose memory comes from elsewhere. Throws VmmError. */
export function packState(files: { config: string; state: string }): string {
  if (files.state.match(RANGES)?.length !== 1) {
    throw new VmmError("Cloud Hypervisor's state does not name its ranges of memory once");
  }
  const config: unknown = parse(files.config);
  if (!Value.Check(Config, config)) {
    throw new VmmError("Cloud Hypervisor's configuration is not of a guest of ours");
  }
  const [zone] = config.memory.zones;
  const memory = { ...config.memory, zones: [{ ...zone, shared: false }] };
  const packed: typeof Saved.static = {
    config: JSON.stringify({ ...config, memory }),
    state: files.state.replace(RANGES, "$1[]"),
  };
  return JSON.stringify(packed);
}

/** The two files for a host with or without Landlock. Throws VmmError if it is not what packState made. */
export function unpackState(
  text: string,
  { hasLandlock }: { hasLandlock: boolean },
): { config: string; state: string } {
  const saved = parse(text);
  if (!Value.Check(Saved, saved)) throw new VmmError("This is no state of Cloud Hypervisor's");
  const config = parse(saved.config);
  if (!Value.Check(Config, config)) {
    throw new VmmError("Cloud Hypervisor's configuration is not of a guest of ours");
  }
  const { initramfs: _, ...payload } = config.payload;
  const rules = hasLandlock ? [LANDLOCK_RULE] : null;
  const landlock = { landlock_enable: hasLandlock, landlock_rules: rules };
  return { config: JSON.stringify({ ...config, payload, ...landlock }), state: saved.state };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new VmmError("Cloud Hypervisor's state is not JSON", { cause });
  }
}
