import { describe, expect, test } from "bun:test";
import { loadConfig } from "./config.ts";

const ENV = { WRENN_CP_URL: "http://localhost:8080/" };
const ARGS = ["--address", "127.0.0.1:50051"];

test("what is not set has its default, empty variables included", () => {
  const env = { ...ENV, WRENN_DIR: "", WRENN_VMM: "" };

  expect(loadConfig(env, ARGS)).toEqual({
    dir: "/var/lib/wrenn",
    listen: { host: "127.0.0.1", port: 50051 },
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
    [{ WRENN_HOST_LISTEN_ADDR: "0.0.0.0:50051" }, ARGS, "is not a loopback address"],
    [{ WRENN_HOST_LISTEN_ADDR: "192.168.1.1:50051" }, ARGS, "is not a loopback address"],
    [{ WRENN_HOST_LISTEN_ADDR: "127.0.0.1.evil.org:1" }, ARGS, "is not a loopback address"],
  ];
  test.each(cases)("%p %p", (env, args, sentence) => {
    expect(() => loadConfig({ ...ENV, ...env }, args)).toThrow(sentence);
  });
});

test.each([
  [":6000", { host: "127.0.0.1", port: 6000 }],
  ["[::1]:6000", { host: "::1", port: 6000 }],
  ["localhost:0", { host: "localhost", port: 0 }],
])("%s is an address of this machine", (address, listen) => {
  expect(loadConfig({ ...ENV, WRENN_HOST_LISTEN_ADDR: address }, ARGS).listen).toEqual(listen);
});
