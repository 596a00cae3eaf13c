import { expect, test } from "bun:test";
import { hasScrapeToken } from "./scrape-token.ts";

const TOKEN = "a token of whoever runs Prometheus";

test.each([`Bearer ${TOKEN}`, `bearer ${TOKEN}`, `Bearer   ${TOKEN}`])(
  "%j carries the token",
  (authorization) => {
    expect(hasScrapeToken(authorization, TOKEN)).toBe(true);
  },
);

test.each([null, "", "Bearer", "Bearer ", TOKEN, `Basic ${TOKEN}`, `Bearer ${TOKEN}x`, "Bearer x"])(
  "%j does not",
  (authorization) => {
    expect(hasScrapeToken(authorization, TOKEN)).toBe(false);
  },
);
