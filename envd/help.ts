// What envd says of itself.

import { ENVD_VERSION } from "./version.ts";

/** The answer to --help. */
export const HELP = `envd ${ENVD_VERSION}

The agent inside a capsule: runs processes and serves files. Started by the guest's init, as root.

  envd [flags]  serves, until SIGTERM

  --hostname <address>      listens on it (default: 0.0.0.0)
  --port <number>           listens on it (default: 49983)
  --programs <directory>    where launch, winsize and renew lie (default: envd's own)
  --control-peer <address>  who may give it orders; more than once for several (default: the host)
  --address <address>       the guest's own, on which ports of loopback are forwarded
  --run-dir <directory>     default: /run
  --etc-dir <directory>     default: /etc
  --inotify-dir <directory> default: /proc/sys/fs/inotify
  --cgroup-root <directory> where cgroup2 is mounted (default: /sys/fs/cgroup)
  -h, --help                this text
  --version                 its version

Environment:

  PATH                      of the processes that it runs
`;
