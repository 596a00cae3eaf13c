// Wrong settings of who people may sign in by.

import type { WrongSetting } from "./wrong-settings.ts";

export const OAUTH: readonly WrongSetting[] = [
  {
    setting: "OAUTH_GITHUB_CLIENT_ID",
    value: "hidden",
    says: "OAUTH_GITHUB_CLIENT_ID and OAUTH_GITHUB_CLIENT_SECRET go together",
  },
  {
    setting: "OAUTH_GITHUB_CLIENT_SECRET",
    value: "hidden",
    says: "OAUTH_GITHUB_CLIENT_ID and OAUTH_GITHUB_CLIENT_SECRET go together",
  },
  {
    setting: "OAUTH_GITHUB_URL",
    value: "http://git.example",
    says: "OAUTH_GITHUB_URL must begin with https://",
  },
  {
    setting: "OAUTH_REDIRECT_URL",
    value: "https://u:hidden@app.example",
    says: "OAUTH_REDIRECT_URL must be a URL like https://host, without user, password, ? and #",
  },
  {
    setting: "OAUTH_OPENID_PROVIDERS",
    value: '[{"name":"corp","client_secret":"hidden"}]',
    says: 'OAUTH_OPENID_PROVIDERS must be JSON: [{"name":…,"issuer":…,"client_id":…,"client_secret":…}]',
  },
  {
    setting: "OAUTH_OPENID_PROVIDERS",
    value:
      '[{"name":"github","issuer":"https://i.example","client_id":"c","client_secret":"hidden"}]',
    says: "OAUTH_OPENID_PROVIDERS must give each provider another name, none github",
  },
  {
    setting: "OAUTH_OPENID_PROVIDERS",
    value: '[{"name":"A/b","issuer":"https://i.example","client_id":"c","client_secret":"hidden"}]',
    says: "OAUTH_OPENID_PROVIDERS: a name must be of a-z, 0-9 and -, like corp",
  },
  {
    setting: "OAUTH_OPENID_PROVIDERS",
    value: '[{"name":"corp","issuer":"http://i.example","client_id":"c","client_secret":"hidden"}]',
    says: "OAUTH_OPENID_PROVIDERS: issuer must begin with https://",
  },
];
