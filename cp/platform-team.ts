// The platform's own team, which has no members: whose the templates are that everybody has, and what is noted of
// accounts and hosts.

import { idFromUuid } from "../proto/ids.ts";

export const PLATFORM_TEAM = idFromUuid("team", "00000000-0000-0000-0000-000000000000");
