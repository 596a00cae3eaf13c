// An event as people read it.

import type { EventPayload } from "../events/payload.ts";

const SUBJECTS: Readonly<Record<string, string>> = {
  sandbox: "Capsule",
  snapshot: "Snapshot",
  host: "Host",
};

/** What it says when it went well, and when not. */
const SAID: Readonly<Record<string, readonly [string, string]>> = {
  "capsule.create": ["was created", "could not be created"],
  "capsule.pause": ["was paused", "could not be paused"],
  "capsule.resume": ["was resumed", "could not be resumed"],
  "capsule.destroy": ["was destroyed", "could not be destroyed"],
  "template.snapshot.create": ["was created", "could not be created"],
  "template.snapshot.delete": ["was deleted", "could not be deleted"],
  "host.up": ["is up", "is up"],
  "host.down": ["is down", "is down"],
};

/** In one line. Names in it, and causes, may be what somebody chose. */
export function summaryOf(event: EventPayload): string {
  if (event.event === "channel.test") return "This is a test of a channel";
  const { resource, outcome, error, metadata = {} } = event;
  const [good, bad] = SAID[event.event] ?? [event.event, `${event.event} failed`];
  const subject = `${SUBJECTS[resource.type] ?? resource.type} ${resource.id}`;
  const why = metadata.reason === undefined ? "" : ` (${metadata.reason})`;
  if (outcome !== "error") return oneLine(`${subject} ${good}${why}`);
  return oneLine(`${subject} ${bad}${why}${error === undefined ? "" : `: ${error}`}`);
}

/** A line for each fact, but for its type. */
export function detailsOf({ resource, actor, ...rest }: EventPayload): string[] {
  const who = [actor.type, actor.name ?? actor.id ?? ""].filter((part) => part !== "").join(" ");
  return [
    `Resource: ${resource.type} ${resource.id}`,
    `Actor: ${who}`,
    `Team: ${rest.team_id}`,
    `Time: ${rest.timestamp}`,
  ].map(oneLine);
}

export function textOf(event: EventPayload): string {
  return [summaryOf(event), "", `Event: ${event.event}`, ...detailsOf(event)].join("\n");
}

function oneLine(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ");
}
