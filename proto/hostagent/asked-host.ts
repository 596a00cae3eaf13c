// Which host a call is for. Addresses pass from one machine to another, and something on the way may take a call to
// the wrong one: an agent that is asked for another host does nothing, and tells nothing.

import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

/** Of each call to an agent: the host's id in its external form. A call without it is for whoever has the address. */
const ASKED_HOST_HEADER = "wrenn-host";

/** For the caller. `hostId` in its external form. */
export function askFor(hostId: string): Interceptor {
  return (next) => async (request) => {
    request.header.set(ASKED_HOST_HEADER, hostId);
    return await next(request);
  };
}

/** For the agent: what is meant for another host fails with `unavailable`. */
export function answerFor(hostId: string): Interceptor {
  return (next) => async (request) => {
    const asked = request.header.get(ASKED_HOST_HEADER);
    if (asked === null || asked === hostId) return await next(request);
    throw new ConnectError(`This is ${hostId}, another host`, Code.Unavailable);
  };
}
