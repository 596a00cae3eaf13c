// Answers that take more than one request.

/** What is described and takes more than a request to bring about, with the tests of `cp/` that do. */
export const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  "accounts/accounts.db.test.ts": [
    ...["POST /v1/auth/signup 429", "POST /v1/auth/activate 200"],
    ...["POST /v1/auth/login 200", "POST /v1/auth/login 401", "POST /v1/auth/login 429"],
    "POST /v1/auth/switch-team 200",
  ],
  "accounts/passwords.db.test.ts": [
    "POST /v1/me/password 204",
    "POST /v1/me/password 429",
    "POST /v1/me/password/reset 429",
    "POST /v1/me/password/reset/confirm 204",
    "POST /v1/me/password/reset/confirm 429",
    "POST /v1/auth/activate 429",
  ],
  "sessions/sessions.db.test.ts": ["POST /v1/auth/activate 403", "DELETE /v1/me/sessions/:id 204"],
  "teams/invitations.db.test.ts": [
    ...["POST /v1/auth/signup/invited 200", "POST /v1/auth/signup/invited 409"],
    "POST /v1/auth/signup/invited 403",
    ...["POST /v1/auth/signup/invited 429", "POST /v1/teams/:id/invitations 409"],
    ...["POST /v1/teams/:id/invitations 429", "DELETE /v1/teams/:id/invitations/:iid 204"],
    ...["POST /v1/invitations/accept 200", "POST /v1/invitations/accept 409"],
    ...["POST /v1/invitations/accept 429", "GET /v1/users/search 200", "GET /v1/users/search 429"],
  ],
  "oauth/oauth.db.test.ts": [
    ...["GET /auth/oauth/:provider 302", "GET /auth/oauth/:provider 429"],
    ...["GET /auth/oauth/:provider 503", "GET /v1/me/providers/:provider/connect 200"],
    "GET /v1/me/providers/:provider/connect 429",
    "GET /v1/me/providers/:provider/connect 503",
    "DELETE /v1/me/providers/:provider 204",
  ],
  "teams/teams.db.test.ts": ["POST /v1/teams 409"],
  "teams/members.db.test.ts": [
    ...["POST /v1/teams/:id/members 201", "POST /v1/teams/:id/members 409"],
    ...["POST /v1/teams/:id/members 429", "PATCH /v1/teams/:id/slug 409"],
    ...["PATCH /v1/teams/:id/members/:uid 204", "DELETE /v1/teams/:id/members/:uid 204"],
    ...["POST /v1/teams/:id/leave 204", "POST /v1/teams/:id/transfer 204"],
    "POST /v1/teams/:id/transfer 409",
    "GET /v1/teams/slug-check 200",
  ],
  "api-keys/api-keys.db.test.ts": ["POST /v1/api-keys 409"],
  "hosts/hosts.db.test.ts": [
    ...["POST /v1/hosts 201", "GET /v1/hosts/:id 200", "POST /v1/hosts/:id/token 201"],
    ...["POST /v1/hosts/register 201", "POST /v1/hosts/auth/refresh 200"],
    ...["POST /v1/hosts/:id/heartbeat 204", "POST /v1/hosts/:id/heartbeat 404"],
  ],
  "exec/exec.db.test.ts": [
    "POST /v1/capsules/:id/exec 504",
    "DELETE /v1/capsules/:id/processes/:selector 204",
  ],
  "files/files.db.test.ts": [
    "POST /v1/capsules/:id/files/write 413",
    "POST /v1/capsules/:id/files/list 200",
  ],
  "snapshots/sharing.db.test.ts and snapshots.db.test.ts": [
    ...["PATCH /v1/snapshots/:name 204", "PATCH /v1/snapshots/:name 409"],
    ...["DELETE /v1/snapshots/:name 204", "PATCH /v1/snapshots/:name/visibility 204"],
  ],
  "channels/channels.db.test.ts": [
    ...["POST /v1/channels/test 200", "POST /v1/channels/test 429", "GET /v1/channels/:id 200"],
    ...["PATCH /v1/channels/:id 200", "PATCH /v1/channels/:id 404"],
    "PUT /v1/channels/:id/config 200",
  ],
  "deliveries/deliveries.db.test.ts": [
    "GET /v1/channels/:id/deliveries 200",
    "POST /v1/channels/:id/deliveries/:delivery/redeliver 202",
    "POST /v1/channels/:id/deliveries/:delivery/redeliver 409",
  ],
  "events/events.db.test.ts": ["GET /v1/events 400"],
  "event-streams/event-streams.db.test.ts": [
    ...["GET /v1/events/stream 400", "GET /v1/events/stream 429"],
    ...["GET /v1/admin/events/stream 400", "GET /v1/admin/events/stream 429"],
  ],
  "streams/streams.db.test.ts": [
    "GET /v1/capsules/:id/exec/stream 101",
    "GET /v1/capsules/:id/processes/:selector/stream 101",
    "GET /v1/capsules/:id/pty 101",
  ],
  "audit/audit.db.test.ts": [
    ...["GET /v1/audit-logs 400", "GET /v1/audit-logs/export 400"],
    "GET /v1/audit-logs/export 429",
  ],
  "deletion/accounts.db.test.ts and teams.db.test.ts": [
    ...["DELETE /v1/me 204", "DELETE /v1/me 409", "DELETE /v1/teams/:id 204"],
  ],
  "administration/administration.db.test.ts": [
    ...["GET /v1/admin/audit-logs 400", "GET /v1/admin/users 400", "GET /v1/admin/teams 400"],
    ...["PUT /v1/admin/users/:id/active 204", "PUT /v1/admin/users/:id/active 404"],
    ...["PUT /v1/admin/users/:id/admin 204", "PUT /v1/admin/users/:id/admin 404"],
    ...["PUT /v1/admin/teams/:id/byoc 204", "PUT /v1/admin/teams/:id/byoc 404"],
    ...["DELETE /v1/admin/teams/:id 204", "DELETE /v1/admin/teams/:id 404"],
    ...["GET /v1/admin/teams/:id/limits 200", "GET /v1/admin/teams/:id/limits 404"],
    ...["PATCH /v1/admin/teams/:id/limits 200", "PATCH /v1/admin/teams/:id/limits 404"],
  ],
  "administration/resources.db.test.ts": [
    ...["GET /v1/admin/templates 400", "PATCH /v1/admin/templates/:name 204"],
    ...["PATCH /v1/admin/templates/:name 409", "DELETE /v1/admin/templates/:name 204"],
  ],
  "limits/limits.db.test.ts": [
    ...["POST /v1/capsules 402", "POST /v1/capsules/:id/fork 402"],
    ...["POST /v1/capsules/:id/resume 402", "POST /v1/snapshots 402"],
  ],
  "front/answers.db.test.ts, of another route": ["POST /v1/capsules/:id/files/stream/write 413"],
  "main.db.test.ts, of other routes: the database is away": [
    ...["GET /v1/events/stream 503", "GET /v1/admin/events/stream 503"],
    "GET /v1/capsules/:id/exec/stream 503",
    "GET /v1/capsules/:id/processes/:selector/stream 503",
    "GET /v1/capsules/:id/pty 503",
  ],
};
