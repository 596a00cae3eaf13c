// Named points at which a test makes the agent die or fail, to see what its restart makes of it. Nothing
// happens anywhere unless WRENN_FAILPOINT names one.

/** In the order in which the operations pass them. */
export const FAILPOINTS = [
  "create.after-claim",
  "create.after-acquire",
  "create.after-network",
  "create.after-cgroup",
  "create.after-disk",
  "create.after-boot",
  "create.after-vmm",
  "create.after-guest",
  "create.after-running",
  "warm.after-claim",
  "warm.after-acquire",
  "warm.after-network",
  "warm.after-cgroup",
  "warm.after-disk",
  "warm.after-boot",
  "warm.after-vmm",
  "warm.after-guest",
  "warm.after-stop",
  "warm.after-seal",
  "warm.after-publish",
  "pause.after-mark",
  "pause.after-begin",
  "pause.after-freeze",
  "pause.after-state",
  "pause.after-stop",
  "pause.after-paused",
  "seal.after-memory",
  "seal.after-disk",
  "seal.after-layers",
  "seal.after-manifest",
  "seal.after-sync",
  "seal.after-rename",
  "seal.after-prune",
  "seal.after-seal",
  "seal.after-durable",
  "seal.after-vmm",
  "seal.after-cgroup",
  "seal.after-network",
  "resume.after-mark",
  "resume.after-acquire",
  "resume.after-network",
  "resume.after-cgroup",
  "resume.after-disk",
  "resume.after-boot",
  "resume.after-vmm",
  "resume.after-guest",
  "resume.after-move",
  "resume.after-running",
  "live-resume.after-continue",
  "capture.after-draft",
  "capture.after-freeze",
  "capture.after-stop",
  "capture.after-wake",
  "capture.after-seal",
  "capture.after-hold",
  "snapshot.after-facts",
  "publish.after-partial",
  "publish.after-sync",
  "publish.after-rename",
  "snapshot.after-publish",
  "fork.after-hold",
  "fork.after-children",
  "stall.after-mark",
  "stall.after-continue",
  "stall.after-wake",
  "destroy.after-mark",
  "destroy.after-vmm",
  "destroy.after-memory",
  "destroy.after-disk",
  "destroy.after-cgroup",
  "destroy.after-finish",
  "destroy.after-network",
] as const;

export type Failpoint = (typeof FAILPOINTS)[number];

export class Failpoints {
  readonly #name: Failpoint | null;
  readonly #action: string;
  #wasStopped = false;

  /**
   * `<name>:kill`, `<name>:fail` or `<name>:stop` (the program stands still, once, until it gets SIGCONT:
   * somebody may want to end another one just then), or null. Throws if there is no such point.
   */
  constructor(setting: string | null) {
    const [name, action = ""] = (setting ?? "").split(":");
    this.#name = FAILPOINTS.find((point) => point === name) ?? null;
    this.#action = action;
    if (setting !== null && (!this.#name || !["kill", "fail", "stop"].includes(action))) {
      throw new Error(`WRENN_FAILPOINT ${JSON.stringify(setting)}: no such point or action`);
    }
  }

  reach(point: Failpoint): void {
    if (point !== this.#name) return;
    if (this.#action === "kill") process.kill(process.pid, "SIGKILL");
    if (this.#action === "stop") {
      if (!this.#wasStopped) process.kill(process.pid, "SIGSTOP");
      this.#wasStopped = true;
      return;
    }
    throw new Error(`Failpoint ${point}`);
  }
}
