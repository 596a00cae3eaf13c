// Many capsules at once on this machine: all come up, answer, and go without a trace.

import { expect, test } from "bun:test";
import { adminClient } from "../harness/platform.ts";

const COUNT = process.env.WRENN_SOAK ? 20 : 5;

test(`${COUNT} capsules at once each run their own program`, async () => {
  const client = await adminClient();
  const capsules = await Promise.all(
    Array.from({ length: COUNT }, () => client.create({ memory_mb: 256 })),
  );
  try {
    const outputs = await Promise.all(
      capsules.map((capsule, i) =>
        client.exec(capsule.id, {
          cmd: "python3",
          args: [
            "-c",
            `open('/home/wrenn-user/mine', 'a').write('${i}'); print(open('/home/wrenn-user/mine').read())`,
          ],
          timeout_sec: 300,
        }),
      ),
    );

    expect(new Set(capsules.map((c) => c.id)).size).toBe(COUNT);
    expect(outputs.map((o) => o.stdout)).toEqual(capsules.map((_, i) => `${i}\n`));
  } finally {
    await Promise.all(capsules.map((capsule) => client.destroy(capsule.id)));
  }
  const left = new Set((await client.list()).map((c) => c.id));
  expect(capsules.filter((capsule) => left.has(capsule.id))).toEqual([]);
}, 900_000);
