import { expect, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";

const platform = await forThisFile(AccountsPlatform.start());

const get = (path: string) => platform.app.handle(new Request(`http://localhost${path}`));

test("the page loads nothing that we don't serve ourselves, and may load nothing else", async () => {
  const page = await get("/docs");
  const html = await page.text();
  const links = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, link]) => link ?? "");
  const served = await Promise.all(links.map(async (link) => (await get(link)).status));

  expect(html).not.toMatch(/https?:/);
  expect(links).toContain("/docs/swagger-ui-bundle.js");
  expect(served).toEqual(links.map(() => 200));
  expect(page.headers.get("content-security-policy")).toStartWith("default-src 'none'");
});

test.each([
  ["/docs", "text/html; charset=utf-8"],
  ["/docs/start.js", "text/javascript"],
  ["/docs/swagger-ui-bundle.js", "text/javascript"],
  ["/docs/swagger-ui.css", "text/css"],
  ["/docs/favicon.png", "image/png"],
])("%s is %s", async (path, type) => {
  const response = await get(path);

  expect(response.headers.get("content-type")).toBe(type);
  expect((await response.bytes()).byteLength).toBeGreaterThan(100);
});
