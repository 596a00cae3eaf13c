// The names by which control planes and agents know each other. They are in no DNS: certificates carry them,
// and whoever connects says which one it wants, whatever the address.

/** Of every control plane's own certificate. Agents take calls from its owners only. */
export const CONTROL_PLANE_NAME = "cp.wrenn.internal";

/** Below it are the agents' names. */
export const AGENTS_DOMAIN = "agents.wrenn.internal";
