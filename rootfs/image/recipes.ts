// The base images: what each is made of.

/** Packages the platform needs in every base image, with Debian's names. */
const PLATFORM_PACKAGES = [
  "ca-certificates",
  "chrony", // clock from /dev/ptp0
  "curl",
  "git",
  "iproute2",
  "procps", // ps, sysctl
  "socat", // relay of the port forwarder
  "sudo",
  "tini", // PID 1, reaps zombies
  "wget",
];

export interface DebianRecipe {
  readonly name: string;
  readonly suite: string;
  readonly packages: readonly string[];
  /** Size of the file system; what is free in it costs nothing, the file is sparse. */
  readonly sizeMib: number;
  /** Fixed, so that the same contents give the same bytes. */
  readonly uuid: string;
}

export const RECIPES: Readonly<Record<string, DebianRecipe>> = {
  "minimal-debian": {
    name: "minimal-debian",
    suite: "bookworm",
    packages: [...PLATFORM_PACKAGES, "bash", "python3"],
    sizeMib: 5120,
    uuid: "2d0e6a4e-8f3b-4d51-9a0c-5b6f0d5a0004",
  },
};
