// The agent's version, as /health and the metadata of capsules report it.

export const AGENT_VERSION = "0.1.0";
