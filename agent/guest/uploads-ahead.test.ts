// What uploads have in the agent before their guests want it, at a guest that takes nothing.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { UPLOADS_AHEAD_MAX } from "../limits.ts";
import { writeFile } from "./files.ts";
import { Guest } from "./guest.ts";
import { StreamBudget } from "./stream-budget.ts";

/** More than the kernel takes for a reader that does not read. */
const PIECE = new Uint8Array(16 * 1024 * 1024);
const FILE = { path: "/x", user: "" };
/** One that is being sent, and one that the client asks for meanwhile. */
const WANTED_PIECES = 2;
const QUIET_MS = 300;

let listener: Bun.TCPSocketListener<undefined>;
let budget: StreamBudget;
let guest: Guest;
let isAsked: boolean;

beforeEach(() => {
  isAsked = false;
  listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        isAsked = true;
        socket.pause();
      },
    },
  });
  budget = new StreamBudget(200);
  const { port } = listener;
  guest = new Guest({ hostIp: "127.0.0.1", port, accessToken: "secret", teamId: "team", budget });
});

afterEach(() => {
  guest.close();
  listener.stop(true);
});

/** Begins an upload, and tells how many pieces of it are here by now. */
function begin() {
  const begun = { pieces: 0, isOver: false };
  async function* pieces() {
    for (;;) {
      begun.pieces += 1;
      yield PIECE;
    }
  }
  const ended = writeFile(guest, FILE, pieces()).catch(() => {});
  void ended.then(() => {
    begun.isOver = true;
  });
  return begun;
}

test("an upload has a few pieces here, and gives their room back at its end", async () => {
  const upload = begin();
  await waitFor("pieces ahead", () => upload.pieces, { holds: (count) => count > WANTED_PIECES });
  const others = Array.from({ length: UPLOADS_AHEAD_MAX }, () => budget.takeAhead());
  expect(others.filter((room) => room === null)).toHaveLength(1);

  guest.close();
  await waitFor("the end of the upload", () => upload.isOver);

  expect(budget.takeAhead()).not.toBeNull();
});

test("where others have all the room, an upload has what is wanted of it and no more", async () => {
  for (let i = 0; i < UPLOADS_AHEAD_MAX; i++) budget.takeAhead();

  const upload = begin();
  await waitFor("the request", () => isAsked);
  await Bun.sleep(QUIET_MS);

  expect(upload.pieces).toBeWithin(1, WANTED_PIECES + 1);
});
