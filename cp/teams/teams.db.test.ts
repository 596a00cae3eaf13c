import { expect, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { OWNED_TEAMS_MAX } from "./team.ts";

const platform = await forThisFile(AccountsPlatform.start());

test("a person owns a team named after them, and the teams they create", async () => {
  const { token, teamId, email } = await platform.person("Barbara");

  const created = await platform.call("POST", "/v1/teams", { token, body: { name: "R-D" } });
  const listed = await platform.call("GET", "/v1/teams", { token });

  const team = {
    slug: expect.stringMatching(/^[0-9a-f]{6}-[0-9a-f]{6}$/),
    is_byoc: false,
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    role: "owner",
  };
  expect<unknown>(created).toEqual({
    status: 201,
    body: { ...team, id: expect.stringMatching(/^team-[0-9a-z]{25}$/), name: "R-D" },
  });
  expect<unknown>(listed.body).toEqual([
    { ...team, id: teamId, name: "Barbara's Team" },
    { ...team, id: created.body.id, name: "R-D" },
  ]);
  expect((await platform.mailsTo(email)).at(-1)).toContain("Team R-D was created");
});

test("a deleted team is in no list", async () => {
  const { token, teamId } = await platform.person();
  const { body } = await platform.call("POST", "/v1/teams", { token, body: { name: "Short" } });
  await platform.database.sql`update teams set deleted_at = now() where name = 'Short'`;

  const listed = await platform.call("GET", "/v1/teams", { token });
  expect(Object.values(listed.body)).toMatchObject([{ id: teamId }]);
  expect(body.id).not.toBe(teamId);
});

test.each([[{}], [{ name: "" }], [{ name: "a<b>" }], [{ name: "x".repeat(129) }], [{ name: 1 }]])(
  "%j is no name for a team",
  async (body) => {
    const { token } = await platform.person();

    const answer = await platform.call("POST", "/v1/teams", { token, body });
    expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_request"]);
    expect(answer.body.error.message).toStartWith("name: ");
  },
);

test("an account owns a bounded number of teams, also when it asks for many at once", async () => {
  const { token } = await platform.person();
  const requests = Array.from({ length: OWNED_TEAMS_MAX + 5 }, () =>
    platform.call("POST", "/v1/teams", { token, body: { name: "Many" } }),
  );

  const statuses = (await Promise.all(requests)).map(({ status }) => status);
  expect(statuses.filter((status) => status === 201)).toHaveLength(OWNED_TEAMS_MAX - 1);
  expect(statuses.filter((status) => status === 409)).toHaveLength(6);
});
