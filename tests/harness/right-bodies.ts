// A body that is right, for each route of the API that takes one.

import { makeKeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { encodeId, newId } from "../../proto/ids.ts";

const { requestPem: csr } = await makeKeyAndRequest();

type Bodies = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

const OWN: Bodies = {
  "POST /v1/auth/signup": { email: "ada@example.com", password: "12345678", name: "Ada" },
  "POST /v1/auth/signup/invited": { token: "t", password: "12345678", name: "Ada" },
  "POST /v1/auth/activate": { token: "t" },
  "POST /v1/auth/login": { email: "ada@example.com", password: "12345678" },
  "POST /v1/auth/switch-team": { team_id: encodeId("team", newId("team")) },
  "PATCH /v1/me": { name: "Ada" },
  "DELETE /v1/me": { confirmation: "ada@example.com" },
  "POST /v1/me/password": {
    ...{ current_password: "12345678", new_password: "12345678", confirm_password: "12345678" },
  },
  "POST /v1/me/password/reset": { email: "ada@example.com" },
  "POST /v1/me/password/reset/confirm": { token: "t", new_password: "12345678" },
  "POST /v1/teams": { name: "Team" },
  "PATCH /v1/teams/:id": { name: "Team" },
  "PATCH /v1/teams/:id/slug": { slug: "a-team" },
  "POST /v1/teams/:id/members": { email: "ada@example.com" },
  "POST /v1/teams/:id/invitations": { email: "grace@example.com", role: "member" },
  "POST /v1/invitations/accept": { token: "t" },
  "PATCH /v1/teams/:id/members/:uid": { role: "admin" },
  "POST /v1/teams/:id/transfer": { user_id: encodeId("user", newId("user")) },
  "PUT /v1/admin/users/:id/active": { active: false },
  "PUT /v1/admin/users/:id/admin": { admin: false },
  "PUT /v1/admin/teams/:id/byoc": { enabled: true, byoc: true },
  "PATCH /v1/admin/teams/:id/limits": {
    ...{ capsules: 1, vcpus: 1, memory_mb: 1, disk_mb: 1, snapshots: 1, snapshot_mb: 1 },
    requests_per_minute: null,
  },
  "POST /v1/api-keys": {
    ...{ name: "key", expires_at: "2999-01-31T12:00:00Z", scopes: ["read", "exec"] },
  },
  "POST /v1/channels": {
    ...{ name: "ops", provider: "webhook", config: { url: "http://127.0.0.1:9/" } },
    events: ["capsule.create"],
  },
  "POST /v1/channels/test": { provider: "webhook", config: { url: "http://127.0.0.1:9/" } },
  "PATCH /v1/channels/:id": { name: "ops", events: ["capsule.create"] },
  "PUT /v1/channels/:id/config": { config: { url: "http://127.0.0.1:9/" } },
  "POST /v1/hosts": { type: "regular", team_id: "t", provider: "p", availability_zone: "a" },
  "POST /v1/hosts/register": {
    ...{ token: "t", arch: "x86_64", cpu_cores: 1, memory_mb: 1, disk_gb: 1 },
    ...{ address: "127.0.0.1:9090", csr },
  },
  "POST /v1/hosts/auth/refresh": { refresh_token: "t", csr },
  "POST /v1/capsules": {
    ...{ template: "minimal", vcpus: 1, memory_mb: 512, timeout_sec: 1 },
    private_ports: true,
    metadata: { a: "b" },
    volume_ids: [],
  },
  "POST /v1/capsules/:id/resume": { from: "disk", memory: true },
  "POST /v1/capsules/:id/fork": { count: 1, timeout_sec: 1 },
  "POST /v1/capsules/:id/exec": {
    ...{ cmd: "true", args: ["a"], timeout_sec: 1, background: true, tag: "tag" },
    ...{ envs: { A: "b" }, cwd: "/", user: "root" },
  },
  "POST /v1/capsules/:id/files/read": { path: "/a" },
  "POST /v1/capsules/:id/files/list": { path: "/a", depth: 1 },
  "POST /v1/capsules/:id/files/mkdir": { path: "/a" },
  "POST /v1/capsules/:id/files/remove": { path: "/a" },
  "POST /v1/capsules/:id/files/stream/read": { path: "/a" },
  "POST /v1/snapshots": { sandbox_id: encodeId("capsule", newId("capsule")), name: "n" },
  "POST /v1/admin/capsules/:id/snapshot": { name: "n" },
  "PATCH /v1/snapshots/:name": { new_name: "n" },
  "PATCH /v1/admin/templates/:name": { new_name: "n" },
  "PATCH /v1/snapshots/:name/visibility": { public: true },
};

/** By `METHOD path` of the route. */
export const RIGHT_BODIES: Bodies = {
  ...OWN,
  ...Object.fromEntries(
    Object.entries(OWN)
      .filter(([route]) => / \/v1\/capsules/.test(route))
      .map(([route, body]) => [ofPlatform(route), body]),
  ),
};

/** The route that does the same with capsules of the platform's team. */
export function ofPlatform(route: string): string {
  return route.replace("/v1/capsules", "/v1/admin/capsules");
}
