// The origin of a page (RFC 6454), as browsers write it in Origin and at the begin of Referer.

const DEFAULT_PORTS: Readonly<Record<string, string>> = { http: ":80", https: ":443" };

/** Of scheme and host with port, the latter left out where it is the scheme's. */
export function originOf(scheme: string, authority: string): string {
  const port = DEFAULT_PORTS[scheme.toLowerCase()] ?? "";
  const host = authority.toLowerCase();
  const isDefault = port !== "" && host.endsWith(port);
  return `${scheme.toLowerCase()}://${isDefault ? host.slice(0, -port.length) : host}`;
}
