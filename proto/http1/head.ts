// The heads of HTTP/1.1 messages (RFC 9112), read strictly: what two programs could read differently is
// refused, so that no request can hide inside another on its way through the proxies.

import type { ByteWindow } from "./byte-window.ts";
import { LinesCache } from "./repeated-lines.ts";

/** Start line and headers of one message; Node and nginx refuse beyond 16 and 32 KiB. */
const HEAD_BYTES_MAX = 64 * 1024;
const HEADERS_MAX = 256;
/** Options of the Connection header; honest messages have two. */
const CONNECTION_OPTIONS_MAX = 64;

const HEAD_END = Buffer.from("\r\n\r\n");

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Visible characters, and bytes beyond ASCII as some clients send them unescaped. */
const TARGET = /^[!-~\x80-\xff]+$/;
/** Control characters: they could end a line. */
const BAD_VALUE = /[^\t -~\x80-\xff]/;
const DIGITS = /^[0-9]{1,15}$/;
const HOST = /^[a-z0-9._\-[\]:]*$/;

/** The message breaks the protocol; the text is one sentence that a client may see. */
export class MalformedHttp extends Error {
  override readonly name = "MalformedHttp";
}

export interface Header {
  readonly name: string;
  /** The name in lower case. */
  readonly key: string;
  readonly value: string;
}

/** How long the body is: bytes, in chunks, or until the connection ends. 0: there is none. */
export type BodyLength = number | "chunked" | "until-close";

export interface RequestHead {
  readonly method: string;
  /** Path and query as they came, or `*`. */
  readonly target: string;
  readonly minor: 0 | 1;
  readonly headers: readonly Header[];
  /** Host and port in lower case; empty if an HTTP/1.0 client sent none. */
  readonly authority: string;
  readonly bodyLength: number | "chunked";
  readonly isKeptAlive: boolean;
  /** The protocol to change to, such as `websocket`; null: none. */
  readonly upgrade: string | null;
}

export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly minor: 0 | 1;
  readonly headers: readonly Header[];
  readonly bodyLength: BodyLength;
  readonly isKeptAlive: boolean;
}

/** Finds the end of a head in bytes that come in pieces, and looks at each of them once. */
export class HeadFinder {
  #seen = 0;

  /**
   * Takes the head with its empty line and returns its text without that; null when it is not whole yet.
   * Throws when it is too long.
   */
  take(bytes: ByteWindow): string | null {
    const at = bytes.indexOf(HEAD_END, this.#seen);
    if (at > HEAD_BYTES_MAX || (at < 0 && bytes.length > HEAD_BYTES_MAX)) {
      throw new MalformedHttp("The head of the message is too long");
    }
    this.#seen = at < 0 ? Math.max(0, bytes.length - HEAD_END.length + 1) : 0;
    return at < 0 ? null : bytes.takeText(at, HEAD_END.length);
  }
}

/** The lines of a whole head, without the empty one. */
function linesOf(head: Buffer): string[] {
  return head.toString("latin1", 0, head.length - HEAD_END.length).split("\r\n");
}

/** A head that was read, and its lines: what it says in the same words as another is not read again. */
export interface Known<Head> {
  readonly head: Head;
  readonly lines: readonly string[];
}

/** Reads a whole head with its empty line. Throws MalformedHttp. */
export function parseRequestHead(bytes: Buffer): RequestHead {
  return parseRequest(linesOf(bytes), null);
}

/** The same of its lines. */
export function parseRequest(
  lines: readonly string[],
  known: Known<RequestHead> | null,
): RequestHead {
  const line = parseRequestLine(lines[0] ?? "");
  const headers = parseHeaders(lines, known);
  const bodyLength = requestBodyLength(headers, line.minor);
  const tokens = connectionTokens(headers);
  const isKeptAlive = line.minor === 1 && !tokens.has("close");
  const wantsUpgrade = line.minor === 1 && tokens.has("upgrade") && bodyLength === 0;
  const upgrade = wantsUpgrade ? headerOf(headers, "upgrade") : null;
  return toRequest(line, { headers, bodyLength, isKeptAlive, upgrade });
}

/**
 * The head with that first line and all other lines of the known one, of the same version of the
 * protocol; null if it is of another. Throws MalformedHttp.
 */
export function withRequestLine(line: string, known: RequestHead): RequestHead | null {
  const parsed = parseRequestLine(line);
  return parsed.minor === known.minor ? toRequest(parsed, known) : null;
}

type RequestFields = Pick<RequestHead, "headers" | "bodyLength" | "isKeptAlive" | "upgrade">;

type RequestLine = Pick<RequestHead, "method" | "minor" | "target"> & { authority?: string };

function parseRequestLine(line: string): RequestLine {
  const words = line.split(" ");
  const method = words[0] ?? "";
  const minor = words[2] === "HTTP/1.1" ? 1 : 0;
  if (words.length > 3 || (minor === 0 && words[2] !== "HTTP/1.0") || !TOKEN.test(method)) {
    throw new MalformedHttp("The request line is malformed");
  }
  return { method, minor, ...originForm(words[1] ?? "", method) };
}

function toRequest(line: RequestLine, fields: RequestFields): RequestHead {
  const { method, minor, target } = line;
  const { headers, bodyLength, isKeptAlive, upgrade } = fields;
  const authority = line.authority ?? hostOf(headers, minor);
  return { method, target, minor, headers, authority, bodyLength, isKeptAlive, upgrade };
}

/** Reads a whole head that answers a request of that method. Throws MalformedHttp. */
export function parseResponseHead(bytes: Buffer, method: string): ResponseHead {
  return parseResponse(linesOf(bytes), method, null);
}

/** The same of its lines. */
export function parseResponse(
  lines: readonly string[],
  method: string,
  known: Known<ResponseHead> | null,
): ResponseHead {
  const match = /^HTTP\/1\.([01]) ([1-9][0-9]{2})(?: (.*))?$/.exec(lines[0] ?? "");
  const reason = match?.[3] ?? "";
  if (match === null || BAD_VALUE.test(reason)) {
    throw new MalformedHttp("The status line is malformed");
  }
  const status = Number(match[2]);
  const minor = match[1] === "1" ? 1 : 0;
  const headers = parseHeaders(lines, known);
  const bodyLength = responseBodyLength(headers, status, method);
  const tokens = connectionTokens(headers);
  const isKeptAlive =
    bodyLength !== "until-close" && (minor === 1 ? !tokens.has("close") : tokens.has("keep-alive"));
  return { status, reason, minor, headers, bodyLength, isKeptAlive };
}

/** The value of the only header of that name, values joined when there are several; null: none. */
export function headerOf(headers: readonly Header[], key: string): string | null {
  let value: string | null = null;
  for (const header of headers) {
    if (header.key === key) value = value === null ? header.value : `${value}, ${header.value}`;
  }
  return value;
}

export function header(name: string, value: string): Header {
  return { name, key: name.toLowerCase(), value };
}

/** The bytes of a head, with those of the body that come with it. */
export function formatHead(
  startLine: string,
  headers: readonly Header[],
  { more = NO_HEADERS, body = NO_BYTES }: { more?: readonly Header[]; body?: Buffer } = {},
): Buffer {
  const kept = texts.get(headers) ?? texts.keep(headers, formatLines(headers));
  const text = `${startLine}\r\n${kept}${more.length === 0 ? "" : formatLines(more)}\r\n`;
  if (body.length === 0) return Buffer.from(text, "latin1");
  const bytes = Buffer.allocUnsafe(text.length + body.length);
  bytes.write(text, 0, "latin1");
  body.copy(bytes, text.length);
  return bytes;
}

function formatLines(headers: readonly Header[]): string {
  let text = "";
  for (const { name, value } of headers) text += `${name}: ${value}\r\n`;
  return text;
}

const NO_HEADERS: readonly Header[] = [];
const NO_BYTES = Buffer.alloc(0);
const texts = new LinesCache<string>();

/** The options of the Connection header, in lower case. Throws when there are too many. */
export function connectionTokens(headers: readonly Header[]): ReadonlySet<string> {
  const value = headerOf(headers, "connection");
  if (value === null) return NO_TOKENS;
  if (value === "keep-alive") return KEEP_ALIVE;
  const options = value.toLowerCase().split(",", CONNECTION_OPTIONS_MAX + 1);
  if (options.length > CONNECTION_OPTIONS_MAX) {
    throw new MalformedHttp("The Connection header has too many options");
  }
  return new Set(options.map(withoutBlanks));
}

const NO_TOKENS: ReadonlySet<string> = new Set();
/** What most clients say. */
const KEEP_ALIVE: ReadonlySet<string> = new Set(["keep-alive"]);

/**
 * Names of headers that were looked at before, with their keys: a program sends the same ones with every
 * message. Whoever sends others fills it, and then it begins anew.
 */
const knownNames = new Map<string, string>();
const KNOWN_NAMES_MAX = 512;
const KNOWN_NAME_LENGTH_MAX = 64;

/** The name in lower case. Throws when it is none. */
function keyOf(name: string): string {
  const known = knownNames.get(name);
  if (known !== undefined) return known;
  if (!TOKEN.test(name)) throw new MalformedHttp("A header is malformed");
  const key = name.toLowerCase();
  if (name.length > KNOWN_NAME_LENGTH_MAX) return key;
  if (knownNames.size >= KNOWN_NAMES_MAX) knownNames.clear();
  knownNames.set(name, key);
  return key;
}

function parseHeaders(
  lines: readonly string[],
  known: Known<Pick<RequestHead, "headers">> | null,
): Header[] {
  if (lines.length - 1 > HEADERS_MAX) throw new MalformedHttp("There are too many headers");
  const headers: Header[] = [];
  for (let i = 1; i < lines.length; i++) {
    const line = lines[i] ?? "";
    const same = known?.lines[i] === line ? known.head.headers[i - 1] : undefined;
    headers.push(same ?? parseHeader(line));
  }
  return headers;
}

function parseHeader(line: string): Header {
  const colon = line.indexOf(":");
  const name = line.slice(0, Math.max(0, colon));
  const value = withoutBlanks(line.slice(colon + 1));
  const key = keyOf(name);
  if (BAD_VALUE.test(value)) throw new MalformedHttp("A header is malformed");
  return { name, key, value };
}

/** Blanks are spaces and tabs (RFC 9110, 5.6.3); what else JavaScript trims is part of a value, or forbidden. */
function withoutBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text, start)) start += 1;
  while (start < end && isBlank(text, end - 1)) end -= 1;
  return text.slice(start, end);
}

function isBlank(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code === 0x20 || code === 0x09;
}

/** Path and query; an absolute target also names the host, which then counts instead of Host. */
function originForm(target: string, method: string): { target: string; authority?: string } {
  if (TARGET.test(target)) {
    if (target.startsWith("/") || (target === "*" && method === "OPTIONS")) return { target };
    const match = /^https?:\/\/([^/?#@]+)([/?].*)?$/i.exec(target);
    if (match?.[1] !== undefined) {
      const path = match[2] ?? "/";
      return {
        target: path.startsWith("?") ? `/${path}` : path,
        authority: match[1].toLowerCase(),
      };
    }
  }
  throw new MalformedHttp("The request's target is malformed");
}

function hostOf(headers: readonly Header[], minor: 0 | 1): string {
  // Two of them are joined by a comma, which no host has.
  const value = headerOf(headers, "host");
  const host = value?.toLowerCase() ?? "";
  if (value === null ? minor === 1 : !HOST.test(host)) {
    throw new MalformedHttp("The Host header is missing or malformed");
  }
  return host;
}

function requestBodyLength(headers: readonly Header[], minor: 0 | 1): number | "chunked" {
  const coding = headerOf(headers, "transfer-encoding");
  if (coding === null) return contentLength(headers) ?? 0;
  if (coding.toLowerCase() !== "chunked" || minor === 0 || contentLength(headers) !== null) {
    throw new MalformedHttp("The length of the request's body is ambiguous");
  }
  return "chunked";
}

function responseBodyLength(
  headers: readonly Header[],
  status: number,
  method: string,
): BodyLength {
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return 0;
  const coding = headerOf(headers, "transfer-encoding");
  if (coding === null) return contentLength(headers) ?? "until-close";
  if (coding.toLowerCase() !== "chunked") {
    throw new MalformedHttp("The transfer coding of the response is unknown");
  }
  return "chunked";
}

function contentLength(headers: readonly Header[]): number | null {
  let length: number | null = null;
  for (const { key, value } of headers) {
    if (key !== "content-length") continue;
    const bytes = DIGITS.test(value) ? Number(value) : Number.NaN;
    if (Number.isNaN(bytes) || length !== null) {
      throw new MalformedHttp("Content-Length is malformed");
    }
    length = bytes;
  }
  return length;
}
