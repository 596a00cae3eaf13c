import { expect, test } from "bun:test";
import { isPublicEnvdRoute } from "./envd-routes.ts";

test.each(["/health", "/files?path=/init", "/process.Process/Start", "/", "/initial"])(
  "%s is for everybody with the token",
  (target) => {
    expect(isPublicEnvdRoute(target)).toBe(true);
  },
);

test.each([
  "/init",
  "/init/",
  "/init?x",
  "//init",
  "/INIT",
  "/./init",
  "/x/../init",
  "/%69nit",
  "/init/more",
  "/init;x",
  "/freeze",
  "/unfreeze",
  "/collapse",
  "/fsfreeze",
  "/fsthaw",
  "/upgrade",
])("%s is for the agent only", (target) => {
  expect(isPublicEnvdRoute(target)).toBe(false);
});
