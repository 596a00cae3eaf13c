// A plain HTTP client of the public API, as a stranger would write it.

export interface Capsule {
  readonly id: string;
  readonly status: string;
  readonly template: string;
  readonly vcpus: number;
  readonly memory_mb: number;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exit_code: number;
  readonly duration_ms: number;
  readonly encoding: "utf-8" | "base64";
}

export interface ExecBody {
  readonly cmd: string;
  readonly args?: readonly string[];
  readonly envs?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: string;
  readonly timeout_sec?: number;
  readonly background?: boolean;
  readonly tag?: string;
}

export interface FileEntry {
  readonly name: string;
  readonly path: string;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly permissions: string;
  readonly owner: string;
  readonly symlink_target?: string;
}

interface ErrorBody {
  readonly error?: { readonly code?: string; readonly message?: string };
}

/** An answer with an error status: the API's code and sentence. */
class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly body: Record<string, unknown>;

  constructor(status: number, body: ErrorBody) {
    super(`${status} ${body.error?.code}: ${body.error?.message}`);
    this.status = status;
    this.code = body.error?.code ?? "";
    this.body = { ...body.error };
  }

  static async of(response: Response): Promise<ApiError> {
    const body: ErrorBody = JSON.parse(await response.text());
    return new ApiError(response.status, body);
  }
}

export class Client {
  readonly #base: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(base: string, headers: Readonly<Record<string, string>>) {
    this.#base = base;
    this.#headers = headers;
  }

  /** The raw answer, whatever its status. */
  fetch(path: string, init: RequestInit & { headers?: Record<string, string> } = {}) {
    return fetch(`${this.#base}${path}`, {
      signal: AbortSignal.timeout(300_000),
      ...init,
      headers: { ...this.#headers, ...init.headers },
    });
  }

  /** The JSON of a successful answer; throws ApiError on the others. */
  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.fetch(path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      headers: {
        // A create on a loaded machine is answered 202 after 25 s otherwise, and isn't done.
        prefer: "wait=300",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
    });
    const text = await response.text();
    if (!response.ok) throw new ApiError(response.status, JSON.parse(text));
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }

  create(body: Record<string, unknown> = {}): Promise<Capsule> {
    return this.json("POST", "/v1/capsules", body);
  }

  get(id: string): Promise<Capsule> {
    return this.json("GET", `/v1/capsules/${id}`);
  }

  list(): Promise<Capsule[]> {
    return this.json("GET", "/v1/capsules");
  }

  destroy(id: string): Promise<void> {
    return this.json("DELETE", `/v1/capsules/${id}`);
  }

  exec(id: string, body: ExecBody): Promise<ExecResult> {
    return this.json("POST", `/v1/capsules/${id}/exec`, body);
  }

  /** A shell command line; its result whatever the exit code. */
  sh(id: string, line: string, more: Partial<ExecBody> = {}): Promise<ExecResult> {
    return this.exec(id, { cmd: "/bin/sh", args: ["-c", line], ...more });
  }

  async write(id: string, path: string, content: Uint8Array<ArrayBuffer> | string): Promise<void> {
    const form = new FormData();
    form.append("path", path);
    form.append("file", new Blob([content]), "upload");
    const response = await this.fetch(`/v1/capsules/${id}/files/write`, {
      method: "POST",
      body: form,
    });
    if (!response.ok) throw await ApiError.of(response);
  }

  async read(id: string, path: string): Promise<Uint8Array> {
    const response = await this.fetch(`/v1/capsules/${id}/files/read`, {
      method: "POST",
      body: JSON.stringify({ path }),
      headers: { "content-type": "application/json" },
    });
    if (!response.ok) throw await ApiError.of(response);
    return new Uint8Array(await response.arrayBuffer());
  }

  async listFiles(id: string, path: string, depth = 1): Promise<FileEntry[]> {
    const answer = await this.json<{ entries: FileEntry[] }>(
      "POST",
      `/v1/capsules/${id}/files/list`,
      { path, depth },
    );
    return answer.entries;
  }

  mkdir(id: string, path: string): Promise<{ entry: FileEntry }> {
    return this.json("POST", `/v1/capsules/${id}/files/mkdir`, { path });
  }

  remove(id: string, path: string): Promise<void> {
    return this.json("POST", `/v1/capsules/${id}/files/remove`, { path });
  }
}

/** The error that the promise rejects with; fails when it resolves. */
export async function apiError(promise: Promise<unknown>): Promise<ApiError> {
  const outcome = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  if (outcome instanceof ApiError) return outcome;
  throw new Error(`expected an API error, got ${outcome === null ? "success" : outcome}`);
}
