// The X.509 library, which wants something to be there before it is.

/** Loaded when it is needed: it takes a tenth of a second, for which an agent that is replaced need not be away. */
export async function loadX509() {
  await import("reflect-metadata");
  return await import("@peculiar/x509");
}
