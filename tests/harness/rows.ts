// What a row of the database has to say that a test does not care about.

export const CAPSULE_ROW = {
  template: "minimal-debian",
  vcpus: 1,
  memoryMb: 512,
  timeoutSec: 0,
  diskSizeMb: 5120,
  defaultUser: "root",
} as const;

export const TEMPLATE_ROW = { vcpus: 1, memoryMb: 512, defaultUser: "root" } as const;
