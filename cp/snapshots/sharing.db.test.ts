import { afterEach, beforeAll, expect, test } from "bun:test";
import { eq, ne } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  type Answer,
  addTeam,
  TestPlatform,
  type TestTeam,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, events, teams, templateOperations, templates } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";

const platform = await forThisFile(TestPlatform.start());
let other: TestTeam;

beforeAll(async () => {
  other = await addTeam(platform.database);
  const { db } = platform.database;
  await db.update(teams).set({ slug: "makers-1" }).where(eq(teams.id, platform.team.id));
  await db.update(teams).set({ slug: "users-2" }).where(eq(teams.id, other.id));
});

afterEach(async () => {
  const { db } = platform.database;
  await db.delete(capsules);
  await db.delete(events);
  await db.delete(templates).where(ne(templates.teamId, PLATFORM_TEAM));
  await db.update(teams).set({ deletedAt: null });
  platform.agent.capsules.clear();
  platform.agent.pauses.templates.clear();
  platform.agent.pauses.takesMs = 0;
});

const call = (team: TestTeam, method: string, path: string, body?: unknown) =>
  platform.call(method, path, { team, ...(body === undefined ? {} : { body }) });
const code = ({ status, body }: Answer) => [status, body.error?.code];
const reason = ({ body }: Answer) => (body.error as { reason?: string } | undefined)?.reason;

/** A snapshot of the first team. */
async function made(name: string): Promise<void> {
  const sandbox_id = await platform.create();
  const answer = await call(platform.team, "POST", "/v1/snapshots", { sandbox_id, name });
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
}

const show = (name: string, isPublic: boolean, team = platform.team) =>
  call(team, "PATCH", `/v1/snapshots/${name}/visibility`, { public: isPublic });
const rename = (name: string, newName: string, team = platform.team) =>
  call(team, "PATCH", `/v1/snapshots/${name}`, { new_name: newName });
const start = (template: string, team = platform.team) =>
  call(team, "POST", "/v1/capsules", { template });

interface Page {
  readonly templates: readonly { name: string; team_slug: string; owned: boolean }[];
  readonly total: number;
}

async function page(query: string, team = platform.team) {
  const answer = await call(team, "GET", `/v1/snapshots?${query}`);
  const body = answer.body as Partial<Page>;
  return { ...answer, names: body.templates?.map(({ name }) => name), total: body.total };
}

async function recorded(): Promise<unknown[]> {
  const all = await platform.database.db.select().from(events).orderBy(events.id);
  return all
    .filter(({ type }) => type.startsWith("template."))
    .map(({ type, resource, metadata }) => [type, resource.id, metadata]);
}

test("a public template starts capsules of other teams by slug and name, a private one none", async () => {
  await made("ours");

  const before = await start("makers-1/ours", other);
  const published = await show("ours", true);
  const by = {
    reference: await start("makers-1/ours", other),
    nameAlone: await start("ours", other),
    ownReference: await start("makers-1/ours"),
    otherSlug: await start("users-2/ours", other),
  };

  expect(published.status).toBe(204);
  expect(by.reference).toMatchObject({ status: 201, body: { template: "makers-1/ours" } });
  expect(by.ownReference).toMatchObject({ status: 201, body: { template: "ours" } });
  expect([before, by.nameAlone, by.otherSlug].map(code)).toEqual(Array(3).fill([404, "not_found"]));
  // What is there and may not be seen is told like what is not there.
  const absent = await start("makers-1/else", other);
  expect(reason(before)).toBe("template_not_found");
  expect(before.body.error.message).toBe(absent.body.error.message.replace("else", "ours"));
});

test.each([
  ["wrenn/minimal-debian", 201],
  ["wrenn/minimal", 201],
  ["minimal", 201],
  ["wrenn/ours", 404],
  ["platform/minimal-debian", 404],
  ["makers-1/minimal", 404],
  ["a/b/c", 400],
  ["/ours", 400],
  ["makers-1/", 400],
  ["Makers-1/ours", 400],
  [`${"s".repeat(41)}/ours`, 400],
  ["makers-1/../x", 400],
])("%s is a template's name or is none: %d", async (reference, status) => {
  await made("ours");

  expect((await start(reference)).status).toBe(status);
});

test("a template that is public no more stays with the capsules of others", async () => {
  await made("ours");
  await show("ours", true);
  const { body } = await start("makers-1/ours", other);
  await call(other, "POST", `/v1/capsules/${body.id}/pause`);

  const hidden = await show("ours", false);
  const again = await show("ours", false);
  const refused = await start("makers-1/ours", other);
  const resumed = await call(other, "POST", `/v1/capsules/${body.id}/resume`);
  const forked = await call(other, "POST", `/v1/capsules/${body.id}/fork`, { count: 1 });

  expect([hidden, again, resumed, forked].map(({ status }) => status)).toEqual([
    204, 204, 200, 201,
  ]);
  expect(code(refused)).toEqual([404, "not_found"]);
  expect(await recorded()).toEqual([
    ["template.snapshot.create", "ours", {}],
    ["template.publish", "ours", {}],
    ["template.unpublish", "ours", {}],
  ]);
});

test("a template of a deleted team starts nothing", async () => {
  await made("ours");
  await show("ours", true);
  await platform.database.db
    .update(teams)
    .set({ deletedAt: new Date() })
    .where(eq(teams.id, platform.team.id));

  expect(code(await start("makers-1/ours", other))).toEqual([404, "not_found"]);
  expect((await page("q=makers", other)).total).toBe(0);
});

test("a renamed template has its new name, is public no more, and its capsules go on", async () => {
  await made("ours");
  await show("ours", true);
  const { body } = await start("makers-1/ours", other);
  platform.agent.faultBefore("createSandbox", async () => {
    // Between the look at the template and the answer of its host.
    await rename("ours", "renamed");
  });

  const during = await start("ours");
  const again = await rename("renamed", "renamed");

  expect([during.status, again.status]).toEqual([201, 204]);
  expect([await start("ours"), await start("makers-1/renamed", other)].map(code)).toEqual([
    [404, "not_found"],
    [404, "not_found"],
  ]);
  expect((await start("renamed")).status).toBe(201);
  expect((await call(other, "POST", `/v1/capsules/${body.id}/pause`)).status).toBe(200);
  expect((await recorded()).at(-1)).toEqual(["template.rename", "ours", { new_name: "renamed" }]);
});

test("a name that cannot be given or a template that is not the team's is refused", async () => {
  await made("ours");
  await made("taken");
  platform.agent.pauses.takesMs = 100;
  const coming = made("coming");
  await waitFor("a snapshot under way", async () => {
    return (await platform.database.db.select().from(templateOperations)).length > 0;
  });

  const renamed = [
    await rename("ours", "coming"),
    await rename("ours", "taken"),
    await rename("ours", "minimal-debian"),
    await rename("ours", "minimal"),
    await rename("ours", "no/name"),
    await rename("ours", ""),
    await rename("minimal-debian", "mine"),
    await rename("missing", "mine"),
    await rename("ours", "mine", other),
  ];
  const shown = [
    await show("minimal-debian", true),
    await show("ours", true, other),
    await call(platform.team, "PATCH", "/v1/snapshots/ours/visibility", { public: "yes" }),
  ];
  await coming;

  expect(renamed.map(code)).toEqual([
    [409, "template_name_taken"],
    [409, "template_name_taken"],
    [409, "name_reserved"],
    [409, "name_reserved"],
    [400, "invalid_request"],
    [400, "invalid_request"],
    [403, "forbidden"],
    [404, "not_found"],
    [404, "not_found"],
  ]);
  expect(renamed.slice(6, 8).map(reason)).toEqual(["template_protected", "template_not_found"]);
  expect(shown.map(code)).toEqual([
    [404, "not_found"],
    [404, "not_found"],
    [400, "invalid_request"],
  ]);
});

test("of renames to one name at once one is made", async () => {
  const names = ["a1", "a2", "a3", "a4"];
  for (const name of names) await made(name);

  const answers = await Promise.all(names.map((name) => rename(name, "wanted")));

  expect(answers.map(({ status }) => status).toSorted()).toEqual([204, 409, 409, 409]);
});

test("a template that is deleted while another team restores it is gone, and leaves no capsule behind", async () => {
  await made("ours");
  await show("ours", true);
  const kept = await start("makers-1/ours", other);
  platform.agent.faultBefore("createSandbox", async () => {
    const deleted = await call(platform.team, "DELETE", "/v1/snapshots/ours");
    if (deleted.status !== 204) throw new Error("not deleted");
  });

  const late = await start("makers-1/ours", other);
  const foreign = await call(other, "DELETE", "/v1/snapshots/ours");

  expect(code(late)).toEqual([404, "not_found"]);
  expect(reason(late)).toBe("template_not_found");
  expect(code(foreign)).toEqual([404, "not_found"]);
  expect((await call(other, "GET", `/v1/capsules/${kept.body.id}`)).body.status).toBe("running");
  const listed = await call(other, "GET", "/v1/capsules");
  expect(Object.values(listed.body)).toHaveLength(1);
});

test("a page has own templates, then the platform's, then public ones, newest first", async () => {
  for (const name of ["first", "second"]) await made(name);
  await show("first", true);
  const theirs = await call(other, "POST", "/v1/capsules", {});
  for (const name of ["c-1", "c-2"]) {
    await call(other, "POST", "/v1/snapshots", { sandbox_id: theirs.body.id, name });
  }

  const own = await page("page=1");
  const foreign = await page("page=1", other);
  const array = await call(other, "GET", "/v1/snapshots");

  expect(own.names?.slice(0, 2)).toEqual(["second", "first"]);
  expect(own.total).toBe(7);
  expect(foreign.names?.slice(0, 2)).toEqual(["c-2", "c-1"]);
  expect(foreign.names?.at(-1)).toBe("first");
  expect(foreign.total).toBe(8);
  expect(Object.values(array.body)).toHaveLength(7);
  expect(foreign.body).toMatchObject({ page: 1, per_page: 50, total_pages: 1 });
  const { templates: listed } = foreign.body as Partial<Page>;
  expect(listed?.at(-1)).toMatchObject({
    name: "first",
    type: "snapshot",
    platform: false,
    protected: false,
    public: true,
    owned: false,
    team_slug: "makers-1",
  });
  expect(listed?.find(({ name }) => name === "minimal-debian")).toMatchObject({
    platform: true,
    protected: true,
    public: false,
    owned: false,
    team_slug: "wrenn",
  });
});

test("pages together are the list, each template once", async () => {
  for (const name of ["a", "b", "c"]) await made(name);
  // All of one moment: only the order of ids tells them apart.
  const createdAt = new Date("2026-01-01T00:00:00Z");
  await platform.database.db.update(templates).set({ createdAt });

  const pages = await Promise.all([1, 2, 3, 4].map((at) => page(`per_page=3&page=${at}`)));
  const whole = await page("per_page=200");

  expect(pages.flatMap(({ names }) => names ?? [])).toEqual(whole.names ?? []);
  expect(pages.map(({ names }) => names?.length)).toEqual([3, 3, 2, 0]);
  expect(pages.map(({ body }) => body.total_pages)).toEqual([3, 3, 3, 3]);
});

test("a search finds parts of names and slugs, and takes wildcards for what they are", async () => {
  for (const name of ["Data_set", "dataXset", "v1.0"]) await made(name);
  await show("Data_set", true);

  expect((await page("q=DATA")).names).toEqual(["dataXset", "Data_set"]);
  expect((await page("q=a_s")).names).toEqual(["Data_set"]);
  expect((await page("q=%25")).total).toBe(0);
  expect((await page("q=%5C")).total).toBe(0);
  expect((await page("q=makers", other)).names).toEqual(["Data_set"]);
  expect((await page("q=&type=snapshot")).total).toBe(3);
  expect((await page("q=minimal&type=snapshot")).total).toBe(0);
});

test.each(["page=0", "page=x", "per_page=0", "per_page=201", "page=1.5", `q=${"x".repeat(129)}`])(
  "%s is refused",
  async (query) => {
    expect(code(await call(platform.team, "GET", `/v1/snapshots?${query}`))).toEqual([
      400,
      "invalid_request",
    ]);
  },
);
