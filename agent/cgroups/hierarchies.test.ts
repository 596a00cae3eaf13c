import { describe, expect, test } from "bun:test";
import { chooseHierarchies, parseMounts } from "./hierarchies.ts";

const V1 = `tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/blkio cgroup rw,relatime,blkio 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
`;
const V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n";
const JOINT = "cgroup /c/cpu,cpuacct,memory,pids cgroup rw,cpu,cpuacct,memory,pids 0 0\n";

describe("the trees of a host", () => {
  test("with cgroup v1 are one for each controller", () => {
    expect(chooseHierarchies(parseMounts(V1), ["hugetlb"])).toEqual([
      { version: 1, mount: "/sys/fs/cgroup/cpu", controllers: ["cpu"] },
      { version: 1, mount: "/sys/fs/cgroup/memory", controllers: ["memory"] },
      { version: 1, mount: "/sys/fs/cgroup/blkio", controllers: ["io"] },
      { version: 1, mount: "/sys/fs/cgroup/pids", controllers: ["pids"] },
    ]);
  });

  test("with cgroup v2 are one", () => {
    const offered = ["cpuset", "cpu", "io", "memory", "pids"];

    expect(chooseHierarchies(parseMounts(V2), offered)).toEqual([
      { version: 2, mount: "/sys/fs/cgroup", controllers: ["memory", "cpu", "pids", "io"] },
    ]);
  });

  test("that share a mount are used once", () => {
    expect(chooseHierarchies(parseMounts(JOINT), [])).toEqual([
      { version: 1, mount: "/c/cpu,cpuacct,memory,pids", controllers: ["memory", "cpu", "pids"] },
    ]);
  });

  test("that are mounted a second time are used where they were first", () => {
    const again = V1.replaceAll("/sys/fs/cgroup", "/var/container/sys/fs/cgroup");

    expect(chooseHierarchies(parseMounts(V1 + again), [])).toEqual(
      chooseHierarchies(parseMounts(V1), []),
    );
  });

  test("may be of both versions", () => {
    const mounts = parseMounts(V1).filter(({ mount }) => !mount.endsWith("/pids"));

    expect(chooseHierarchies(mounts, ["pids"]).at(-1)).toEqual({
      version: 2,
      mount: "/sys/fs/cgroup/unified",
      controllers: ["pids"],
    });
  });

  test("that lack a controller are refused by its name", () => {
    expect(() => chooseHierarchies(parseMounts(V2), ["cpu"])).toThrow("for memory, pids");
  });
});
