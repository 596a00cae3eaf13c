// Which host a capsule goes to: the least loaded one, judged by its scarcest resource.

import type { Id } from "../../proto/ids.ts";

/** What a host has, and what its capsules hold of it. */
export interface HostLoad {
  readonly id: Id<"host">;
  readonly address: string;
  readonly certName: string;
  readonly cpuCores: number;
  readonly memoryMb: number;
  readonly diskGb: number;
  readonly usedVcpus: number;
  readonly usedMemoryMb: number;
  readonly usedDiskMb: number;
}

export interface CapsuleShape {
  readonly vcpus: number;
  readonly memoryMb: number;
  readonly diskSizeMb: number;
}

/**
 * What every host keeps for itself. The absolute figures are meant for servers; on a small machine
 * they would leave nothing, so none takes more than `shareMax` of what there is: at 32 GiB of
 * memory and 120 GiB of disk both rules say the same.
 */
const HOST_RESERVE = { memoryMb: 8192, vcpus: 4, diskMb: 30_720, shareMax: 0.25 } as const;
/** Capsules wait more than they compute: processors may be promised more than once. */
const CPU_OVERCOMMIT = 1.5;
/** What a resting capsule counts of its memory and of its disk. */
export const PAUSED_MEMORY_SHARE = 0.5;
export const PAUSED_DISK_SHARE = 2 / 3;

/**
 * The hosts that have room for the shape, best first; of equal ones in the order given. Processors
 * never exclude a host, for they may be over-committed, but lower its rank.
 */
export function rankHosts(hosts: readonly HostLoad[], shape: CapsuleShape): HostLoad[] {
  return hosts
    .filter((host) => hasRoom(host, shape))
    .map((host) => ({ host, score: freeShare(host) }))
    .sort((a, b) => b.score - a.score)
    .map(({ host }) => host);
}

export function hasRoom(host: HostLoad, shape: CapsuleShape): boolean {
  const total = capacity(host);
  return (
    total.memoryMb - host.usedMemoryMb >= shape.memoryMb &&
    total.diskMb - host.usedDiskMb >= shape.diskSizeMb
  );
}

/** How many capsules of the shape the host has room for, at most `max`. */
export function countRoom(host: HostLoad, shape: CapsuleShape, max: number): number {
  const total = capacity(host);
  const byMemory = (total.memoryMb - host.usedMemoryMb) / shape.memoryMb;
  const byDisk = (total.diskMb - host.usedDiskMb) / shape.diskSizeMb;
  return Math.max(0, Math.floor(Math.min(byMemory, byDisk, max)));
}

/** The free share of the scarcest resource: 1 is an empty host. */
function freeShare(host: HostLoad): number {
  const total = capacity(host);
  return Math.min(
    share(total.memoryMb - host.usedMemoryMb, total.memoryMb),
    share(total.vcpus - host.usedVcpus, total.vcpus),
    share(total.diskMb - host.usedDiskMb, total.diskMb),
  );
}

function share(free: number, total: number): number {
  return total <= 0 ? 0 : free / total;
}

function capacity(host: HostLoad): { memoryMb: number; vcpus: number; diskMb: number } {
  return {
    memoryMb: afterReserve(host.memoryMb, HOST_RESERVE.memoryMb),
    vcpus: afterReserve(host.cpuCores * CPU_OVERCOMMIT, HOST_RESERVE.vcpus),
    diskMb: afterReserve(host.diskGb * 1024, HOST_RESERVE.diskMb),
  };
}

function afterReserve(total: number, reserve: number): number {
  return total - Math.min(reserve, total * HOST_RESERVE.shareMax);
}
