// Cookies that servers in capsules set are for the host that was asked: capsules are neighbours below one
// domain, and a `Domain` that names it would hand the cookie to all of them, or take the place of theirs.

import type { Header } from "../../proto/http1/head.ts";

const SET_COOKIE_DOMAIN = /;[\t ]*domain[\t ]*(?:[=;]|$)/i;

/**
 * The header, in a Set-Cookie without each `Domain` other than `host`: the cookie is that host's alone then
 * (RFC 6265bis, 5.7), as it would be without one.
 */
export function withinHost(line: Header, host: () => string): Header {
  if (line.key !== "set-cookie" || !SET_COOKIE_DOMAIN.test(line.value)) return line;
  const own = host();
  const [pair = "", ...attributes] = line.value.split(";");
  const kept = attributes.filter((attribute) => {
    const [name = "", domain = ""] = attribute.split("=", 2).map((text) => text.trim());
    if (name.toLowerCase() !== "domain") return true;
    return domain.replace(/^\./, "").toLowerCase() === own;
  });
  return { ...line, value: [pair, ...kept].join(";") };
}
