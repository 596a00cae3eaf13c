/**
 * The guest-agent contract that envd keeps. Clients switch features on by it (semantic version
 * compare), so it only rises with the behaviour it promises.
 */
export const ENVD_VERSION = "0.6.13";
