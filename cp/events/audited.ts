// Which events are entries of the audit log, and as what. What somebody asks for is one as soon as it is begun, so
// that it is known who did and from where, whatever becomes of it; its end is another one only when it fails.
// What nobody asked for is one when it has happened.

import type { AuditEntry } from "../audit/entry.ts";
import type { NewEvent } from "./new-event.ts";

type Told = Pick<AuditEntry, "action" | "status" | "metadata">;

/** By the state that a capsule enters with it. */
const BEGUN: Readonly<Record<string, Told>> = {
  pausing: { action: "pause", status: "success" },
  resuming: { action: "resume", status: "success" },
  stopping: { action: "destroy", status: "warning" },
  snapshotting: { action: "snapshot", status: "success" },
};

/** By the state that a capsule leaves with it: what had been begun, or is only found again. */
const TOLD_BEFORE: Readonly<Record<string, readonly string[]>> = {
  "capsule.pause": ["pausing"],
  "capsule.resume": ["resuming", "missing"],
  "capsule.destroy": ["stopping"],
};

const TEMPLATE_STATUS: Readonly<Record<string, Told["status"]>> = {
  rename: "info",
  publish: "warning",
  unpublish: "info",
};

/** In the log of the event's team. Null for what is no entry. */
export function auditOf(event: Omit<NewEvent, "teamId">): Omit<AuditEntry, "teamId"> | null {
  const told = toldOf(event);
  if (told === null) return null;
  const { actor, subject } = event;
  const isTemplate = event.type.startsWith("template.") && !event.type.includes(".snapshot.");
  const resource = isTemplate ? { ...subject, type: "template" } : subject;
  return { actor, resource, ...told };
}

function toldOf({ type, outcome, metadata = {}, error }: Omit<NewEvent, "teamId">): Told | null {
  const verb = type.slice(type.lastIndexOf(".") + 1);
  switch (type) {
    case "capsule.state.changed":
      if (metadata.from === undefined) return { action: "create", status: "success" };
      return BEGUN[metadata.to ?? ""] ?? null;
    case "host.up":
      return { action: "marked_up", status: "success" };
    case "host.down":
      return { action: "marked_down", status: "error" };
    case "template.snapshot.create":
      return outcome === "error" ? failed("create", error) : null;
    case "template.snapshot.delete":
      return { action: "delete", status: "warning" };
    case "template.rename":
    case "template.publish":
    case "template.unpublish":
      return { action: verb, status: TEMPLATE_STATUS[verb] ?? "info", metadata };
  }
  if (outcome === "error") {
    return { ...failed("error", error), metadata: { phase: verb, ...errorText(error) } };
  }
  const isToldBefore = TOLD_BEFORE[type]?.includes(metadata.from ?? "") ?? true;
  if (isToldBefore) return null;
  const { reason } = metadata;
  const why = reason === undefined ? {} : { reason };
  return { action: verb, status: verb === "destroy" ? "warning" : "info", metadata: why };
}

function failed(action: string, error: string | undefined): Told {
  return { action, status: "error", metadata: errorText(error) };
}

function errorText(error: string | undefined): { error?: string } {
  return error === undefined || error === "" ? {} : { error };
}
