import { expect, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";

const platform = await forThisFile(AccountsPlatform.start());

test.each([
  ["POST", "/v1/volumes", { name: "data", size: "1Gi" }],
  ["GET", "/v1/volumes", undefined],
  ["GET", "/v1/volumes/vl-data", undefined],
  ["DELETE", "/v1/volumes/vl-data", undefined],
])("%s %s says that there are no volumes, to those who may know", async (method, path, body) => {
  const { token } = await platform.person();

  const answer = await platform.call(method, path, { token, body });
  const stranger = await platform.call(method, path, { body });

  expect(answer.status).toBe(501);
  expect<unknown>(answer.body).toMatchObject({
    error: { code: "not_implemented", reason: "not_implemented", retryable: false },
  });
  expect(stranger.status).toBe(401);
});
