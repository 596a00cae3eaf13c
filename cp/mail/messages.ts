// What the mails say.

import { escapeHTML } from "bun";
import type { Mail } from "./mailer.ts";

/** Of a mail that tells of what was done: as long as mail servers try (RFC 5321, 4.5.4.1). */
const NEWS_LIFE_SEC = 5 * 24 * 3600;

/** Asks a person who signed up to show that the address is theirs. */
export function activationMail(options: {
  to: string;
  name: string;
  publicUrl: string;
  token: string;
  /** As long as the token lives. */
  lifeSec: number;
}): Mail {
  const { publicUrl, token } = options;
  return message({
    to: options.to,
    subject: "Activate your Wrenn account",
    lifeSec: options.lifeSec,
    lines: [
      `Hello ${plain(options.name)},`,
      `open this link within ${options.lifeSec / 60} minutes to activate your account:`,
      `${publicUrl}/activate?token=${token}`,
      "Without a browser, send the token in it to the API:",
      `curl ${publicUrl}/v1/auth/activate -d '{"token":"${token}"}'`,
      "If you did not sign up, ignore this mail.",
    ],
  });
}

/** Lets a person who forgot their password choose another one. */
export function passwordResetMail(options: {
  to: string;
  name: string;
  publicUrl: string;
  token: string;
  /** As long as the token lives. */
  lifeSec: number;
}): Mail {
  const { publicUrl, token } = options;
  return message({
    to: options.to,
    subject: "Reset your Wrenn password",
    lifeSec: options.lifeSec,
    lines: [
      `Hello ${plain(options.name)},`,
      `open this link within ${options.lifeSec / 60} minutes to choose another password:`,
      `${publicUrl}/reset-password?token=${token}`,
      "Without a browser, send the token in it to the API:",
      `curl ${publicUrl}/v1/me/password/reset/confirm -d '{"token":"${token}","new_password":"…"}'`,
      "If you did not ask for it, ignore this mail: your password stays as it is.",
    ],
  });
}

/** Tells a person that their account has another password, or one at all. */
export function passwordChangedMail(options: {
  to: string;
  name: string;
  change: "changed" | "added" | "reset";
}): Mail {
  return message({
    to: options.to,
    subject: `The password of your Wrenn account was ${options.change}`,
    lines: [
      `Hello ${plain(options.name)},`,
      `the password of your account was ${options.change}, and whoever was logged in to it is logged out.`,
      "If that was not you, reset it at once.",
    ],
  });
}

/** Tells a person by what else somebody gets into their account, or no more. */
export function providerChangedMail(options: {
  to: string;
  name: string;
  provider: string;
  change: "connected" | "disconnected";
}): Mail {
  const { provider, change } = options;
  return message({
    to: options.to,
    subject: `Provider ${provider} was ${change}`,
    lines: [
      `Hello ${plain(options.name)},`,
      change === "connected"
        ? `you can sign in to your account by ${provider}.`
        : `nobody signs in to your account by ${provider} any more.`,
      "If that was not you, reset your password at once, and look at what is connected.",
    ],
  });
}

/** Tells the creator of a team that it exists. */
export function teamCreatedMail(options: { to: string; name: string; teamName: string }): Mail {
  return message({
    to: options.to,
    subject: `Team ${plain(options.teamName)} was created`,
    lines: [`Hello ${plain(options.name)},`, `your team ${plain(options.teamName)} is ready.`],
  });
}

/** Tells a person that somebody made them a member of a team. */
export function addedToTeamMail(options: { to: string; name: string; teamName: string }): Mail {
  return message({
    to: options.to,
    subject: `You are in team ${plain(options.teamName)}`,
    lines: [
      `Hello ${plain(options.name)},`,
      `you were added to the team ${plain(options.teamName)}. If that is a mistake, you can leave it.`,
    ],
  });
}

/** Asks a person, who may have no account, into a team. */
export function invitationMail(options: {
  to: string;
  /** The name of whoever invites. */
  inviter: string;
  teamName: string;
  role: "admin" | "member";
  publicUrl: string;
  token: string;
  lifeSec: number;
}): Mail {
  const { to, role, publicUrl, token, lifeSec } = options;
  const team = plain(options.teamName);
  const api = `curl ${publicUrl}/v1`;
  return message({
    ...{ to, lifeSec },
    subject: `You are invited to team ${team}`,
    lines: [
      "Hello,",
      `${plain(options.inviter)} invites you to the team ${team}, as ${role}.`,
      `Open this link within ${lifeSec / 86_400} days to join:`,
      `${publicUrl}/invitation?token=${token}`,
      "Without a browser, and without an account, sign up with the token in it:",
      `${api}/auth/signup/invited -d '{"token":"${token}","name":"…","password":"…"}'`,
      "With an account, log in and send it:",
      `${api}/invitations/accept -H "Authorization: Bearer …" -d '{"token":"${token}"}'`,
      "If you don't know what this is about, ignore this mail.",
    ],
  });
}

/** Tells a person that their account is deleted. */
export function accountDeletedMail(options: { to: string; name: string; graceDays: number }): Mail {
  return message({
    to: options.to,
    subject: "Your Wrenn account was deleted",
    lines: [
      `Hello ${plain(options.name)},`,
      "your account was deleted: its sessions and the API keys that you made are void, your own teams are gone.",
      `It is forgotten in ${options.graceDays} days. If that was not you, tell the platform's administrators now.`,
    ],
  });
}

/** Tells a person that nothing is kept of their account any more. */
export function accountPurgedMail(options: { to: string; name: string }): Mail {
  return message({
    to: options.to,
    subject: "Your Wrenn account is forgotten",
    lines: [
      `Hello ${plain(options.name)},`,
      "your account was deleted a while ago, and now nothing is kept of it. This is the last mail about it.",
    ],
  });
}

/** Tells a member of a team what happened there. */
export function eventMail(options: {
  to: string;
  summary: string;
  /** Of which type, in a word of ours. */
  type: string;
  /** A line for each other fact. */
  details: readonly string[];
}): Mail {
  const summary = plain(options.summary);
  return message({
    ...{ to: options.to, subject: summary },
    lines: [`${summary}.`, `Event: ${options.type}`, ...options.details.map(plain)],
  });
}

/**
 * Text that somebody chose, for a mail to somebody else: one line, and nothing in it that a mail program makes a
 * link of.
 */
function plain(text: string): string {
  return text
    .replace(/[\p{C}\p{Z}]+/gu, " ")
    .replaceAll("://", ": //")
    .replace(/(?<=\S)[.@](?=\S)/g, "$& ");
}

function message(options: {
  to: string;
  subject: string;
  lines: readonly string[];
  lifeSec?: number;
}): Mail {
  const { to, subject, lines, lifeSec = NEWS_LIFE_SEC } = options;
  const paragraphs = lines.map((line) => {
    const text = escapeHTML(line);
    return line.startsWith("http") ? `<p><a href="${text}">${text}</a></p>` : `<p>${text}</p>`;
  });
  return { to, subject, text: lines.join("\n\n"), html: paragraphs.join("\n"), lifeSec };
}
