// Wrong settings of how mails are sent.

import type { WrongSetting } from "./wrong-settings.ts";

export const MAIL: readonly WrongSetting[] = [
  ...["smtp://mail.example", "mail.example:587", "2001:db8::1:no"].map((value) => ({
    setting: "SMTP_HOST",
    value,
    says: "SMTP_HOST must be a host's name or address; its port is SMTP_PORT",
  })),
  {
    setting: "SMTP_USERNAME",
    value: "u",
    with: { SMTP_HOST: "mail.example" },
    says: "SMTP_USERNAME and SMTP_PASSWORD go together",
  },
  {
    setting: "SMTP_PASSWORD",
    value: "hidden",
    with: { SMTP_HOST: "mail.example" },
    says: "SMTP_USERNAME and SMTP_PASSWORD go together",
  },
  ...["Wrenn", "Wrenn <noreply@mail.example>"].map((value) => ({
    setting: "SMTP_FROM_EMAIL",
    value,
    with: { SMTP_HOST: "mail.example" },
    says: "SMTP_FROM_EMAIL must be a mail address alone, like noreply@wrenn.dev",
  })),
  {
    setting: "SMTP_PORT",
    value: "smtp",
    with: { SMTP_HOST: "mail.example" },
    says: "SMTP_PORT must be a port number",
  },
  {
    setting: "SMTP_SECURITY",
    value: "ssl",
    with: { SMTP_HOST: "mail.example" },
    says: "SMTP_SECURITY must be one of auto, starttls, tls, none",
  },
];
