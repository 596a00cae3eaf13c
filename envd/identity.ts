// The variables and files by which programs of the guest know which capsule they run in.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Identity {
  readonly capsuleId: string;
  readonly templateId: string;
}

/** Variables of every process. */
export function identityVariables(identity: Identity | null): Record<string, string> {
  const always = { WRENN_SANDBOX: "true", E2B_SANDBOX: "true" };
  if (identity === null) return always;
  return {
    ...always,
    WRENN_SANDBOX_ID: identity.capsuleId,
    WRENN_TEMPLATE_ID: identity.templateId,
    E2B_SANDBOX_ID: identity.capsuleId,
    E2B_TEMPLATE_ID: identity.templateId,
  };
}

/** Writes `wrenn/.WRENN_SANDBOX` and the like under the run directory; existing ones are replaced. */
export function writeIdentityFiles(runDir: string, identity: Identity | null): void {
  const variables = Object.entries(identityVariables(identity));
  for (const product of ["wrenn", "e2b"]) {
    const dir = join(runDir, product);
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    for (const [name, value] of variables) {
      if (!name.toLowerCase().startsWith(`${product}_`)) continue;
      writeFileSync(join(dir, `.${name}`), value, { mode: 0o644 });
    }
  }
}
