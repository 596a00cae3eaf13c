// Requests for a port of a guest that comes to stand still, since its host's disk is full.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { ProxyFixture } from "../../tests/harness/proxy-fixture.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { AgentError } from "../errors.ts";
import { Guest } from "../guest/guest.ts";
import { StreamBudget } from "../guest/stream-budget.ts";
import { GuestRouter } from "./guest-router.ts";

const ID = `cl-${"0".repeat(25)}`;

let fixture: ProxyFixture;
let routers: GuestRouter[];
let isStill: boolean;
/** Called when a request was let in. */
let entered: () => void;

beforeEach(() => {
  fixture = new ProxyFixture();
  routers = [];
  isStill = false;
  entered = () => {};
});
afterEach(async () => {
  for (const router of routers) router.close();
  await fixture[Symbol.asyncDispose]();
});

function noRoom(): AgentError {
  return new AgentError("resource_exhausted", "no room", { subject: "host" });
}

/** The guest, and where the agent's front takes requests for it. */
function guestAt(hostIp: string): { guest: Guest; front: string } {
  const budget = new StreamBudget(1);
  const guest = new Guest({ hostIp, accessToken: "t", teamId: "team", budget });
  const router = new GuestRouter({
    use() {
      if (isStill) throw noRoom();
      entered();
      return { guest, [Symbol.dispose]() {} };
    },
  });
  routers.push(router);
  const port = fixture.frontWith((request) => {
    return router.route(request) ?? { status: 404, headers: [], body: "" };
  });
  return { guest, front: `http://127.0.0.1:${port}/proxy/${ID}` };
}

function standStill(guest: Guest): void {
  isStill = true;
  guest.cutOff(noRoom());
}

test("what waits for the beginning of an answer is told, and what is answered goes on", async () => {
  const { guest, front } = guestAt("127.0.0.1");
  const asked: string[] = [];
  const wakes = Promise.withResolvers<void>();
  const server = fixture.bunServer(async (request) => {
    asked.push(`${request.method} ${new URL(request.url).pathname}`);
    if (!request.url.endsWith("/stream")) await wakes.promise;
    async function* answer() {
      yield "begun";
      await wakes.promise;
      yield ", ended";
    }
    return new Response(answer());
  });
  const at = `${front}/${server}`;
  const streamed = await fetch(`${at}/stream`);
  const waiting = [fetch(`${at}/wait`), fetch(`${at}/wait`, { method: "POST", body: "once" })];
  await waitFor("both are asked", () => asked.length === 3);

  standStill(guest);
  const answers = await Promise.all(waiting);
  isStill = false;
  wakes.resolve();

  expect(answers.map(({ status, headers }) => [status, headers.get("wrenn-proxy-error")])).toEqual([
    [503, "stalled"],
    [503, "stalled"],
  ]);
  expect(await streamed.text()).toBe("begun, ended");
  expect((await fetch(`${at}/again`)).status).toBe(200);
  expect(asked.toSorted()).toEqual(["GET /again", "GET /stream", "GET /wait", "POST /wait"]);
});

test("a port that answers nothing when its guest stands still is not called closed", async () => {
  const { front } = guestAt("127.0.0.1");
  // As it is being connected to.
  entered = () => {
    isStill = true;
  };

  const { headers } = await fetch(`${front}/1/`);

  expect(headers.get("wrenn-proxy-error")).toBe("stalled");
});
