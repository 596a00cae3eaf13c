import { expect, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";

test("a person sees their name, address and ways to sign in", async () => {
  await using platform = await AccountsPlatform.start();
  const { token, email, teamId } = await platform.person("Radia");
  const { sql } = platform.database;
  await sql`insert into oauth_providers (provider, provider_id, user_id)
    select 'github', '7', id from users where email = ${email}`;

  expect<unknown>(await platform.call("GET", "/v1/me", { token })).toEqual({
    status: 200,
    body: {
      user_id: expect.stringMatching(/^usr-/),
      ...{ team_id: teamId, role: "owner", is_admin: true },
      ...{ name: "Radia", email, has_password: true, providers: ["github"] },
    },
  });
});
