import { describe, expect, test } from "bun:test";
import { loadConfig } from "./config.ts";

const ENV = { WRENN_CP_URL: "http://localhost:8080/" };
const ARGS = ["--address", "127.0.0.1:50051"];

test("what is not set has its default, empty variables included", () => {
  const env = { ...ENV, WRENN_DIR: "", WRENN_VMM: "" };

  expect(loadConfig(env, ARGS)).toEqual({
    dir: "/var/lib/wrenn",
    listen: { host: "::", port: 50051 },
    metricsListen: null,
    address: "127.0.0.1:50051",
    cpUrl: "http://localhost:8080",
    registrationToken: null,
    vmm: "auto",
    firecrackerBin: null,
    cloudHypervisorBin: null,
    cpu: null,
    cow: "auto",
    hasHugePages: false,
    nativeDir: null,
    networkPoolSize: 4,
    bootTimeoutMs: null,
    uidBase: 2_100_000_000,
    isWarm: true,
    shares: {
      ...{ diskReadMibps: 0, diskWriteMibps: 0, diskReadIops: 0, diskWriteIops: 0 },
      ...{ networkInMbitps: 0, networkOutMbitps: 0 },
    },
    logLevel: "info",
    metricsToken: null,
    guestStreamsMax: 200,
    failpoint: null,
  });
});

test.each([
  ["1000", 944],
  ["65535", 4096],
  ["1", 1],
])("%s requests that Bun allows are room for %i long-lived calls", (requests, streams) => {
  const env = { ...ENV, BUN_CONFIG_MAX_HTTP_REQUESTS: requests };

  expect(loadConfig(env, ARGS).guestStreamsMax).toBe(streams);
});

describe("one sentence says what is wrong", () => {
  const cases: [Record<string, string>, string[], string][] = [
    [{ WRENN_CP_URL: "" }, ARGS, "WRENN_CP_URL is missing"],
    [{ WRENN_CP_URL: "ftp://x" }, ARGS, "is not an http or https URL"],
    [{}, [], "--address is missing"],
    [{}, ["--address"], "--address is missing"],
    [{}, ["--address", "host"], "is not of the form host:port"],
    [{}, ["--address", "host:70000"], "is not of the form host:port"],
    [{}, [...ARGS, "--verbose", "1"], 'Unknown argument "--verbose"'],
    [{ WRENN_VMM: "xen" }, ARGS, "is none of auto, cloud-hypervisor, firecracker, qemu"],
    [{ WRENN_FIRECRACKER_BIN: "fc" }, ARGS, 'WRENN_FIRECRACKER_BIN "fc" is no absolute path'],
    [{ WRENN_NETWORK_POOL: "-1" }, ARGS, "no integer from 0 to 256"],
    [{ WRENN_METRICS_LISTEN_ADDR: "x" }, ARGS, 'WRENN_METRICS_LISTEN_ADDR "x" is not of the form'],
    [{ WRENN_CP_PLAIN_HTTP: "yes" }, ARGS, "is none of allow, refuse"],
    ...["http://10.0.0.1", "http://127.0.0.1.evil.org", "http://localhost.evil.org:80"].map(
      (url): [Record<string, string>, string[], string] => [
        { WRENN_CP_URL: url },
        ARGS,
        "WRENN_CP_URL must begin with https://",
      ],
    ),
  ];
  test.each(cases)("%p %p", (env, args, sentence) => {
    expect(() => loadConfig({ ...ENV, ...env }, args)).toThrow(sentence);
  });
});

test.each([
  [":6000", { host: "::", port: 6000 }],
  ["10.0.0.7:6000", { host: "10.0.0.7", port: 6000 }],
  ["[::1]:6000", { host: "::1", port: 6000 }],
  ["localhost:0", { host: "localhost", port: 0 }],
])("it listens at %s", (address, listen) => {
  const settings = { WRENN_HOST_LISTEN_ADDR: address, WRENN_METRICS_LISTEN_ADDR: address };
  const config = loadConfig({ ...ENV, ...settings }, ARGS);

  expect([config.listen, config.metricsListen]).toEqual([listen, listen]);
});

test.each([
  ["https://cp.example", "refuse"],
  ["http://cp.example", "allow"],
  ["http://localhost:8080", ""],
  ["http://cp.localhost", ""],
  ["http://127.9.9.9:80", ""],
  ["http://[::1]:80", ""],
])("%s is taken for the control plane with WRENN_CP_PLAIN_HTTP=%s", (url, plain) => {
  const settings = { WRENN_CP_URL: url, WRENN_CP_PLAIN_HTTP: plain };

  expect(loadConfig({ ...ENV, ...settings }, ARGS).cpUrl).toBe(url);
});
