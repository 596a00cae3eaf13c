// One hop of our proxy before a server, as a program of its own: `bun tests/bench/proxy-front.ts <port>`
// prints the port that it listens on.

import { frontLimits } from "../../cp/front/limits.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { Front } from "../../proto/http1/listener.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import { openFilesMax } from "../../proto/open-files.ts";

const pool = new UpstreamPool({
  address: { hostname: "127.0.0.1", port: Number(process.argv[2]) },
  idleMax: 256,
  idleMs: 60_000,
  connectionsMax: 4096,
  retryAfterMs: [],
  dialTimeoutMs: 5_000,
  isFickle: false,
});
const front = new Front({
  limits: frontLimits(openFilesMax()),
  failed: (error) => {
    throw error;
  },
  router: (request) => ({
    pool,
    target: request.target,
    headers: endToEnd(request.headers),
    idleTimeoutMs: 610_000,
    respond: (head) => endToEnd(head.headers),
    explain: (failure) => ({ status: 502, headers: [], body: failure }),
  }),
});
console.log(front.listen({ hostname: "127.0.0.1", port: 0 }));
