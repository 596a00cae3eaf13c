/**
 * What is asked of Firecracker's API (src/firecracker/swagger/firecracker.yaml of its releases), with
 * nothing that 1.12 does not know. Every path is one of the jail's, the same for each capsule, so what
 * Firecracker records in its state holds on any host; nothing of a request becomes a path.
 *
 * - The disk: cache_type Writeback, since the default drops the guest's flushes. There is no discard:
 *   what a guest frees stays allocated in its disk's file.
 * - The root device is told to the kernel by the command line, as under every VMM.
 * - No MMDS, since envd is told by /init; no vsock, since it is reached over the TAP.
 */

import type { DeviceShares, GuestMemory, VmmSpec } from "../../vmm/vmm.ts";
import type { ApiRequest } from "../api/vmm-api.ts";
import { GUEST_MAC, guestCmdline } from "../guest/guest-cmdline.ts";

/** Where the jail shows the capsule's files. */
export const JAIL_FILE = {
  program: "firecracker",
  kernel: "kernel",
  initrd: "initrd",
  disk: "disk",
  /** Flat memory, mapped privately. */
  ram: "ram",
  pager: "pager.sock",
  /** Device state to start from. */
  loaded: "loaded",
  /** The VMM's own directory, with the two below. */
  own: "own",
} as const;
export const API_SOCKET = "api.sock";
export const STATE_FILE = "device-state";

const DRIVE = "root";
const NETWORK_INTERFACE = "net0";
// reboot=k: a reboot goes through the keyboard controller, whose reset ends Firecracker. The other
// words keep the kernel from looking for a mouse and a PCI bus.
const KERNEL_FLAGS = ["reboot=k", "pci=off", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd"];
/**
 * A guest's kernel takes some hundred bytes when it starts; what programs read from /dev/hwrng costs
 * the host's processor.
 */
const ENTROPY_BYTES_PER_SEC = 64 * 1024;
/** In which a bucket that was emptied is full again: what a second allows may come at once. */
const REFILL_MS = 1000;

/** In this order; with the last one the vCPUs run. Throws VmmError for words that cannot be passed on. */
export function bootRequests(spec: VmmSpec, cpu: string | null): ApiRequest[] {
  const { vcpus, memoryMib, kernel, tap } = spec;
  return [
    put("/machine-config", {
      ...{ vcpu_count: vcpus, mem_size_mib: memoryMib },
      ...(cpu === null ? {} : { cpu_template: cpu }),
    }),
    put("/boot-source", {
      kernel_image_path: `/vm/${JAIL_FILE.kernel}`,
      ...(kernel.initrd === null ? {} : { initrd_path: `/vm/${JAIL_FILE.initrd}` }),
      boot_args: bootArgs(spec),
    }),
    put(`/drives/${DRIVE}`, {
      drive_id: DRIVE,
      path_on_host: `/vm/${JAIL_FILE.disk}`,
      is_root_device: false,
      is_read_only: false,
      cache_type: "Writeback",
      io_engine: "Sync",
    }),
    put(`/network-interfaces/${NETWORK_INTERFACE}`, {
      iface_id: NETWORK_INTERFACE,
      host_dev_name: tap,
      guest_mac: GUEST_MAC,
    }),
    put("/entropy", {
      rate_limiter: { bandwidth: bucket(ENTROPY_BYTES_PER_SEC) },
    }),
    put("/actions", { action_type: "InstanceStart" }),
  ];
}

/** The guest's kernel command line, as far as it is ours. Throws VmmError. */
export function bootArgs({ cmdlineExtra }: Pick<VmmSpec, "cmdlineExtra">): string {
  return guestCmdline(KERNEL_FLAGS, cmdlineExtra);
}

/** The vCPUs stay stopped. */
export function loadRequest(spec: VmmSpec, memory: GuestMemory): ApiRequest {
  return put("/snapshot/load", {
    snapshot_path: `/vm/${JAIL_FILE.loaded}`,
    mem_backend:
      memory.kind === "map"
        ? { backend_type: "File", backend_path: `/vm/${JAIL_FILE.ram}` }
        : { backend_type: "Uffd", backend_path: `/vm/${JAIL_FILE.pager}` },
    resume_vm: false,
    network_overrides: [{ iface_id: NETWORK_INTERFACE, host_dev_name: spec.tap }],
  });
}

/** Of a guest that is there, whether its vCPUs run or not. */
export function holdRequests({ disk, network }: DeviceShares): ApiRequest[] {
  return [
    patch(`/drives/${DRIVE}`, {
      drive_id: DRIVE,
      rate_limiter: {
        bandwidth: bucket(together(disk.readBytesPerS, disk.writeBytesPerS)),
        ops: bucket(together(disk.readsPerS, disk.writesPerS)),
      },
    }),
    patch(`/network-interfaces/${NETWORK_INTERFACE}`, {
      iface_id: NETWORK_INTERFACE,
      rx_rate_limiter: { bandwidth: bucket(network.inBytesPerS) },
      tx_rate_limiter: { bandwidth: bucket(network.outBytesPerS) },
    }),
  ];
}

/** Firecracker counts reads and writes in one; its control group holds each to its own. */
function together(reads: number, writes: number): number {
  return reads > 0 && writes > 0 ? reads + writes : 0;
}

/** One of size 0 takes away the one that was there. */
function bucket(perS: number): { size: number; refill_time: number } {
  return { size: perS, refill_time: perS > 0 ? REFILL_MS : 0 };
}

/**
 * Has the device state of a paused guest written into the VMM's own directory, and its memory
 * nowhere: Firecracker first writes and syncs the state and then opens the memory's file, which has no
 * directory here. What it answers is isStateOnlySaved's. Otherwise a pause would write all of the
 * guest's memory; it stays in the stopped process instead, where sealing reads what is the guest's own.
 */
export const SAVE_STATE_REQUEST: ApiRequest = put("/snapshot/create", {
  snapshot_type: "Full",
  snapshot_path: `/vm/${JAIL_FILE.own}/${STATE_FILE}`,
  mem_file_path: "/vm/nowhere/memory",
});

/** Whether a refusal of SAVE_STATE_REQUEST says that all but the memory was written. */
export function isStateOnlySaved(reason: string): boolean {
  return reason.includes("Cannot perform open on the memory backing file");
}

export const PAUSE_REQUEST: ApiRequest = patch("/vm", { state: "Paused" });
export const RESUME_REQUEST: ApiRequest = patch("/vm", { state: "Resumed" });
export const DESCRIBE_REQUEST: ApiRequest = { method: "GET", path: "/" };

function put(path: string, body: Readonly<Record<string, unknown>>): ApiRequest {
  return { method: "PUT", path, body };
}

function patch(path: string, body: Readonly<Record<string, unknown>>): ApiRequest {
  return { method: "PATCH", path, body };
}
