// Downloads whose guest dies in the middle: whoever reads must not take the part for the whole.

import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import type { Platform } from "../../scripts/dev/settings.ts";
import type { Capsule, Client } from "../harness/client.ts";
import { startGuestServer } from "../harness/guest-server.ts";
import { adminClient, platform } from "../harness/platform.ts";

/** More than all buffers on the way hold, and than an emulated guest sends in a minute. */
const FILE_BYTES = 4 * 1024 ** 3;
const GUEST_PORT = 8000;

setDefaultTimeout(240_000);

let client: Client;
let dev: Platform;
let capsule: Capsule;
beforeEach(async () => {
  [client, dev] = await Promise.all([adminClient(), platform()]);
  capsule = await client.create({ memory_mb: 512 });
});
afterEach(() => client.destroy(capsule.id));

const DEATHS = [
  ["its guest agent is killed", "kill -9 $(pidof envd)"],
  ["its machine stops", "sleep 0.1; echo b > /proc/sysrq-trigger"],
] as const;

/** Starts to read, has the guest die, and tells how the rest of the download ended. */
async function readAcross(death: string, download: () => Promise<Response>): Promise<string> {
  const response = await download();
  const reader = response.body?.getReader();
  await reader?.read();
  // Nobody is left to tell that it was done.
  const dying = client.sh(capsule.id, death, { user: "root" }).catch(() => {});
  let bytes = 0;
  try {
    for (;;) {
      const read = await reader?.read();
      if (read === undefined || read.done) return `ended after ${bytes} bytes`;
      bytes += read.value.byteLength;
    }
  } catch {
    return `${response.status}, then failed`;
  } finally {
    await dying;
  }
}

test.each(DEATHS)("a file that is read fails when %s", async (_, death) => {
  await client.sh(capsule.id, `truncate -s ${FILE_BYTES} /home/wrenn-user/large`);
  const download = () =>
    client.fetch(`/v1/capsules/${capsule.id}/files/stream/read`, {
      ...{ method: "POST", body: JSON.stringify({ path: "/home/wrenn-user/large" }) },
      signal: new AbortController().signal,
    });

  expect(await readAcross(death, download)).toBe("200, then failed");
});

test.each(["", "&chunked"])("what a port sends%s fails when its machine stops", async (how) => {
  const server = { capsuleId: capsule.id, port: GUEST_PORT };
  const port = await startGuestServer(client, dev, server);
  const [, [, death]] = DEATHS;

  const end = await readAcross(death, () => port.fetch(`/download?bytes=${FILE_BYTES}${how}`));

  expect(end).toBe("200, then failed");
});
