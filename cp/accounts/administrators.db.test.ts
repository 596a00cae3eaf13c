import { afterEach, beforeEach, expect, test } from "bun:test";
import { AccountsPlatform, PASSWORD } from "../../tests/harness/accounts-platform.ts";

const NAMED = "root@example.com";

let stack: AsyncDisposableStack;
beforeEach(() => {
  stack = new AsyncDisposableStack();
});
afterEach(() => stack.disposeAsync());

/** Two control planes of a new installation. */
async function startBoth(named: string | null): Promise<[AccountsPlatform, AccountsPlatform]> {
  const first = stack.use(await AccountsPlatform.start(undefined, named));
  return [first, stack.use(await first.replica(named))];
}

const administrators = async ({ database }: AccountsPlatform): Promise<string[]> => {
  const rows = await database.sql<{ email: string }[]>`select email from users where is_admin`;
  return rows.map(({ email }) => email);
};

/** People who sign up, and then activate their accounts all at once, half of them at each control plane. */
async function activateAtOnce(
  [first, second]: readonly [AccountsPlatform, AccountsPlatform],
  emails: readonly string[],
) {
  const tokens = await Promise.all(emails.map((email) => first.signUp(email)));
  return await Promise.all(
    tokens.map((token, i) =>
      (i % 2 === 0 ? first : second).call("POST", "/v1/auth/activate", { body: { token } }),
    ),
  );
}

test("of ten first activations at once on two control planes, one makes an administrator", async () => {
  const both = await startBoth(null);
  const emails = Array.from({ length: 10 }, (_, i) => `p${i}@example.com`);

  const answers = await activateAtOnce(both, emails);

  const told = answers.filter(({ body }) => body.is_admin).map(({ body }) => body.email);
  expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
  expect(told).toHaveLength(1);
  expect<unknown>(await administrators(both[0])).toEqual(told);
  const [entry] = await both[0].database.sql`select actor_type, metadata->>'email' as email
    from audit_logs where action = 'grant_admin'`;
  expect<unknown>(entry).toEqual({ actor_type: "system", email: told[0] });
});

test("an account that was active and is gone leaves the place of the first one taken", async () => {
  const [platform] = await startBoth(null);
  await platform.person();
  await platform.database.sql`update users set status = 'deleted', is_admin = false`;

  const token = await platform.signUp("late@example.com");
  await platform.call("POST", "/v1/auth/activate", { body: { token } });

  expect(await administrators(platform)).toEqual([]);
});

test("where the operator named somebody, nobody else becomes the first administrator", async () => {
  const both = await startBoth(NAMED);
  await both[0].person();
  const early = await administrators(both[0]);

  await activateAtOnce(both, ["a@example.com", NAMED, "b@example.com", "c@example.com"]);

  expect([early, await administrators(both[0])]).toEqual([[], [NAMED]]);
});

test("who is named and invited administers the platform as well", async () => {
  const [platform] = await startBoth(NAMED);
  const { token, teamId } = await platform.person();
  const body = { email: NAMED, role: "member" };
  await platform.call("POST", `/v1/teams/${teamId}/invitations`, { token, body });

  const invited = { token: await platform.mailedToken(NAMED), name: "Root", password: PASSWORD };
  const answer = await platform.call("POST", "/v1/auth/signup/invited", { body: invited });

  expect(answer.body).toMatchObject({ email: NAMED, is_admin: true });
});

test("who is named and has an account is made one at the next start, if there is none", async () => {
  const [first, second] = await startBoth(null);
  const owner = await first.person();
  const other = await first.person();
  const starts = [await first.replica(other.email), await first.replica(other.email)];
  for (const start of starts) stack.use(start);
  const appoint = () =>
    Promise.all(starts.map((each) => each.accounts.appointFirstAdministrator()));

  await appoint();
  const whileThereIsOne = await administrators(second);
  await second.database.sql`update users set is_admin = false`;
  await appoint();

  expect([whileThereIsOne, await administrators(second)]).toEqual([[owner.email], [other.email]]);
  const entries = await first.database.sql`select 1 from audit_logs
    where action = 'grant_admin' and metadata->>'email' = ${other.email}`;
  expect(entries).toHaveLength(1);
});

test("who is named but has not shown that the address is theirs is none", async () => {
  const [platform] = await startBoth(NAMED);
  await platform.signUp(NAMED);

  await platform.accounts.appointFirstAdministrator();

  expect(await administrators(platform)).toEqual([]);
});
