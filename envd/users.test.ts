import { expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAccounts, Users } from "./users.ts";

test("users have home and groups from the two files, and odd lines do no harm", () => {
  const { users, userNames, groupNames } = parseAccounts({
    stamp: "",
    passwd: [
      "root:x:0:0:root:/root:/bin/sh",
      "# comment:x:1:1::/:/bin/sh",
      "ada:x:1000:1000::/home/ada:/bin/bash",
      "ada:x:0:0::/evil:/bin/sh",
      "lost:x:1001:1001:::",
      "bad:x:minus:0::/:",
      "",
    ].join("\n"),
    group: "root:x:0:\nstaff:x:50:ada,lost\nada:x:1000:ada\nwheel:x:10:ada\nodd:x:y:ada\n",
  });

  expect(Object.fromEntries(users)).toEqual({
    root: { name: "root", uid: 0, gid: 0, home: "/root", groups: [0] },
    ada: { name: "ada", uid: 1000, gid: 1000, home: "/home/ada", groups: [1000, 50, 10] },
    lost: { name: "lost", uid: 1001, gid: 1001, home: "/", groups: [1001, 50] },
  });
  expect([userNames.get(1000), groupNames.get(50)]).toEqual(["ada", "staff"]);
});

test("whoever is added counts at once, and whom nobody names has no groups", async () => {
  const dir = await mkdtemp(join(tmpdir(), "envd-users-"));
  const paths = { passwd: join(dir, "passwd"), group: join(dir, "group") };
  const users = new Users(paths);
  await writeFile(paths.passwd, "ada:x:1000:1000::/home/ada:/bin/sh\n");
  const before = [users.rights(1000), users.rights(1001), users.userName(1001)];

  await writeFile(paths.passwd, "ada:x:1000:1000::/home/ada:/bin/sh\nbob:x:1001:0::/:/bin/sh\n");
  await writeFile(paths.group, "staff:x:50:ada\n");
  const after = [users.rights(1000).groups, users.byName("bob").gid, users.groupName(50)];
  await rm(dir, { recursive: true });

  expect(before).toMatchObject([{ groups: [1000] }, { uid: 1001, groups: [] }, "1001"]);
  expect(after).toEqual([[1000, 50], 0, "staff"]);
});
