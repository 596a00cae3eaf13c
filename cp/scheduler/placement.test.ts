import { expect, test } from "bun:test";
import { idFromUuid } from "../../proto/ids.ts";
import { countRoom, type HostLoad, rankHosts } from "./placement.ts";

const SMALL = { vcpus: 1, memoryMb: 512, diskSizeMb: 5120 };

function host(serial: number, load: Partial<HostLoad> = {}): HostLoad {
  const id = idFromUuid("host", `00000000-0000-4000-8000-00000000000${serial}`);
  return {
    id,
    address: `10.0.0.${serial}:50051`,
    certName: `agent-${serial}`,
    cpuCores: 64,
    memoryMb: 262_144,
    diskGb: 2000,
    usedVcpus: 0,
    usedMemoryMb: 0,
    usedDiskMb: 0,
    ...load,
  };
}

function rank(hosts: HostLoad[], shape = SMALL): string[] {
  return rankHosts(hosts, shape).map((ranked) => ranked.address);
}

test("the host whose scarcest resource is least used comes first", () => {
  const memoryHalf = host(1, { usedMemoryMb: 120_000 });
  const cpuMost = host(2, { usedVcpus: 80 });
  const light = host(3, { usedVcpus: 10, usedMemoryMb: 30_000 });

  expect(rank([memoryHalf, cpuMost, light])).toEqual([
    light.address,
    memoryHalf.address,
    cpuMost.address,
  ]);
});

test("of equal hosts the first given wins", () => {
  expect(rank([host(1), host(2)])).toEqual(["10.0.0.1:50051", "10.0.0.2:50051"]);
});

test("a host without memory or disk for the capsule is left out", () => {
  const noMemory = host(1, { usedMemoryMb: 262_144 - 8192 - 511 });
  const noDisk = host(2, { usedDiskMb: 2000 * 1024 - 30_720 - 5119 });

  expect(rank([noMemory, noDisk])).toEqual([]);
});

test("the last place is given away, and none after it", () => {
  const last = host(1, { usedMemoryMb: 262_144 - 8192 - 512 });
  const full = host(1, { usedMemoryMb: 262_144 - 8192 });

  expect([rank([last]).length, rank([full]).length]).toEqual([1, 0]);
});

test("processors may be promised more than once", () => {
  expect(rank([host(1, { usedVcpus: 500 })])).toHaveLength(1);
});

// The fixed reserve of a server would leave nothing of a laptop.
test("a small machine keeps a quarter for itself and offers the rest", () => {
  const laptop = host(1, { cpuCores: 2, memoryMb: 8192, diskGb: 60 });
  const filled = { ...laptop, usedMemoryMb: 6144 - 511 };

  expect([rank([laptop]).length, rank([filled]).length]).toEqual([1, 0]);
});

test("as many capsules fit as the scarcest resource allows, never more than asked for", () => {
  const memoryForTwo = host(1, { usedMemoryMb: 262_144 - 8192 - 1300 });
  const diskForOne = host(2, { usedDiskMb: 2000 * 1024 - 30_720 - 6000 });
  const overFull = host(3, { usedMemoryMb: 300_000 });

  const rooms = [memoryForTwo, diskForOne, overFull, host(4)].map((one) =>
    countRoom(one, SMALL, 5),
  );
  expect(rooms).toEqual([2, 1, 0, 5]);
});
