// Settings of the agent that are wrong, and the sentence that says so.

import type { WrongSetting } from "./wrong-settings.ts";
import { SHARES } from "./wrong-share-settings.ts";

export const AGENT: readonly WrongSetting[] = [
  { setting: "WRENN_CP_URL", value: "", says: "WRENN_CP_URL is missing" },
  {
    setting: "WRENN_CP_URL",
    value: "u:hidden@h",
    says: "WRENN_CP_URL is not an http or https URL",
  },
  ...["https://u:hidden@h", "https://h/?a=hidden", "https://h/#hidden"].map((value) => ({
    setting: "WRENN_CP_URL",
    value,
    says: "WRENN_CP_URL must have no user, password, ? or #: paths are added to it",
  })),
  {
    setting: "WRENN_HOST_LISTEN_ADDR",
    value: "50051",
    says: 'WRENN_HOST_LISTEN_ADDR "50051" is not of the form host:port',
  },
  {
    setting: "WRENN_METRICS_LISTEN_ADDR",
    value: "9100",
    says: 'WRENN_METRICS_LISTEN_ADDR "9100" is not of the form host:port',
  },
  {
    setting: "WRENN_CP_URL",
    value: "http://cp.example",
    says:
      "WRENN_CP_URL must begin with https://: whoever reads the way there has this host's credentials " +
      "(WRENN_CP_PLAIN_HTTP=allow takes it as it is)",
  },
  {
    setting: "WRENN_CP_PLAIN_HTTP",
    value: "yes",
    says: 'WRENN_CP_PLAIN_HTTP "yes" is none of allow, refuse',
  },
  {
    setting: "WRENN_VMM",
    value: "xen",
    says: 'WRENN_VMM "xen" is none of auto, cloud-hypervisor, firecracker, qemu',
  },
  {
    setting: "WRENN_FIRECRACKER_BIN",
    value: "firecracker",
    says: 'WRENN_FIRECRACKER_BIN "firecracker" is no absolute path',
  },
  {
    setting: "WRENN_CLOUD_HYPERVISOR_BIN",
    value: "cloud-hypervisor",
    says: 'WRENN_CLOUD_HYPERVISOR_BIN "cloud-hypervisor" is no absolute path',
  },
  {
    setting: "WRENN_COW",
    value: "zfs",
    says: 'WRENN_COW "zfs" is none of auto, reflink, copy, dm',
  },
  {
    setting: "WRENN_CPU",
    value: "host,+vmx",
    says: 'WRENN_CPU "host,+vmx" is no name of a processor',
  },
  { setting: "WRENN_HUGE_PAGES", value: "2M", says: 'WRENN_HUGE_PAGES "2M" is none of off, on' },
  { setting: "WRENN_WARM", value: "hot", says: 'WRENN_WARM "hot" is none of off, on' },
  {
    setting: "WRENN_NETWORK_POOL",
    value: "many",
    says: 'WRENN_NETWORK_POOL "many" is no integer from 0 to 256',
  },
  ...SHARES,
  {
    setting: "WRENN_BOOT_TIMEOUT_SEC",
    value: "never",
    says: 'WRENN_BOOT_TIMEOUT_SEC "never" is no integer from 10 to 3600',
  },
  {
    setting: "WRENN_UID_BASE",
    value: "3000000000",
    says: 'WRENN_UID_BASE "3000000000" is no integer from 65536 to 2147287040',
  },
  {
    setting: "WRENN_METRICS_TOKEN",
    value: "hidden",
    says: "WRENN_METRICS_TOKEN must have at least 16 characters",
  },
  {
    setting: "LOG_LEVEL",
    value: "loud",
    says: 'LOG_LEVEL "loud" is none of debug, info, warn, error',
  },
];

export const AGENT_STARTS: readonly WrongSetting[] = [
  {
    setting: "WRENN_DIR",
    value: "<dir>/text",
    says: "WRENN_DIR: <dir>/text can't be a directory (EEXIST)",
  },
  {
    setting: "WRENN_NATIVE_DIR",
    value: "<dir>",
    says: "Cannot load the native library <dir>/libwrenn.so: WRENN_NATIVE_DIR must hold what make native builds",
  },
  {
    setting: "WRENN_FIRECRACKER_BIN",
    value: "<dir>/nowhere",
    with: { WRENN_VMM: "firecracker" },
    says: "Firecracker is not at <dir>/nowhere; wrenn-agent doctor says what to do about it",
  },
  {
    setting: "WRENN_REGISTRATION_TOKEN",
    value: "",
    says: "The host is not registered; start the agent once with WRENN_REGISTRATION_TOKEN",
  },
  {
    setting: "WRENN_REGISTRATION_TOKEN",
    value: "hidden",
    with: { WRENN_CP_URL: "http://<refusing>" },
    says: "WRENN_REGISTRATION_TOKEN: refused (token: used); POST /v1/hosts makes another",
  },
  {
    setting: "WRENN_CP_URL",
    value: "http://127.0.0.1:1",
    with: { WRENN_REGISTRATION_TOKEN: "hidden" },
    says: "WRENN_CP_URL: 127.0.0.1:1: nobody listens there",
  },
  {
    setting: "WRENN_CP_URL",
    value: "http://<website>",
    with: { WRENN_REGISTRATION_TOKEN: "hidden" },
    says: "WRENN_CP_URL: <website>: what answers there is no control plane",
  },
  ...["WRENN_HOST_LISTEN_ADDR", "WRENN_METRICS_LISTEN_ADDR"].map((setting) => ({
    setting,
    value: "<taken>",
    says: `${setting}: <taken> can't be listened at: another program has it`,
  })),
];
