// An agent without machines: serves the contract of proto/hostagent over TLS on a free port, with
// faults that a test can place before or after any call. tests/contract holds it to the real one.

import { Code, ConnectError, type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import type { AgentOfHost } from "../../cp/agents/agent-clients.ts";
import {
  type CreateSandboxRequest,
  HostAgentService,
} from "../../proto/gen/hostagent/hostagent_pb.js";
import { answerFor } from "../../proto/hostagent/asked-host.ts";
import { tlsOptions } from "../../proto/http1/tls.ts";
import { chunksOf, SimulatedFiles, type SimulatedPath } from "./simulated-agent-files.ts";
import { METADATA, simulatedPoints } from "./simulated-agent-metrics.ts";
import { listed, SimulatedPauses } from "./simulated-agent-pauses.ts";
import { SimulatedProcesses } from "./simulated-agent-processes.ts";
import { mapped, toProcessEvent, toSelector, toTerminalEvent } from "./simulated-agent-streams.ts";
import { AGENT_IDENTITY, AGENT_NAME } from "./test-certificates.ts";

export type Method = keyof typeof HostAgentService.method;
export type Fault = () => Promise<void> | void;

export interface SimulatedCapsule {
  status: "starting" | "running" | "pausing" | "paused" | "resuming" | "stopping" | "error";
  reason: string;
  /** Why it is paused, and since when that is durable. */
  pauseReason: string;
  resumedFrom: string;
  durableAtUnix: bigint;
  /** As its host measured it; null not yet. */
  diskUsedBytes: bigint | null;
  sentBytes: bigint | null;
  readonly request: CreateSandboxRequest;
  readonly hostIp: string;
  readonly createdAt: number;
  lastActiveAt: number;
  readonly files: SimulatedFiles;
  readonly processes: SimulatedProcesses;
  /** Settles when the create is over. */
  created: Promise<void>;
}

export interface SimulatedAgentOptions {
  port?: number;
  /** How long a capsule takes to start. */
  bootMs?: number;
  /** Start with the capsules of an agent that was stopped: a restart of it. */
  capsules?: Map<string, SimulatedCapsule>;
  /** In the external form; any if it is left out. */
  hostId?: string;
}

const EXEC_TIMEOUT_SEC = 30;

export class SimulatedAgent implements AsyncDisposable {
  readonly capsules: Map<string, SimulatedCapsule>;
  readonly pauses = new SimulatedPauses();
  /** Every call that arrived, in order. */
  readonly calls: Method[] = [];
  bootMs: number;
  /** Calls that have arrived and are not answered. */
  underWay = 0;
  /** When a file that is read goes on after its first chunk. */
  secondChunks: Promise<void> = Promise.resolve();
  /** Where reading a file fails, if it is that long. */
  breakReadAfterBytes: number | undefined;
  readonly #before = new Map<Method, Fault[]>();
  readonly #after = new Map<Method, Fault[]>();
  readonly #server: Bun.Server<undefined>;
  #hostIps = 0;

  constructor(options: SimulatedAgentOptions = {}) {
    this.capsules = options.capsules ?? new Map();
    this.bootMs = options.bootMs ?? 0;
    const { hostId } = options;
    const interceptors = hostId === undefined ? [] : [answerFor(hostId)];
    const router = createConnectRouter({ interceptors });
    this.#serve(router);
    const handlers = new Map(
      router.handlers.map((handler) => [handler.requestPath, createFetchHandler(handler)]),
    );
    this.#server = Bun.serve({
      hostname: "127.0.0.1",
      port: options.port ?? 0,
      idleTimeout: 0,
      // Bun's server shows no certificate to its handler: this one takes whatever the authority has signed.
      tls: { ...tlsOptions(AGENT_IDENTITY), requestCert: true },
      maxRequestBodySize: 256 * 1024 * 1024,
      fetch: async (request) => {
        const { pathname } = new URL(request.url);
        const handler = handlers.get(pathname);
        return handler === undefined ? new Response(null, { status: 404 }) : await handler(request);
      },
    });
  }

  get address(): string {
    return `127.0.0.1:${this.#server.port}`;
  }

  /** For whoever calls it, whatever host it is. */
  get place(): AgentOfHost {
    return { id: null, address: this.address, certName: AGENT_NAME };
  }

  /** Before the next call of the method does anything. A fault that throws is its answer. */
  faultBefore(method: Method, fault: Fault): void {
    this.#before.set(method, [...(this.#before.get(method) ?? []), fault]);
  }

  /** After the next call of the method has done its work, before the caller learns of it. */
  faultAfter(method: Method, fault: Fault): void {
    this.#after.set(method, [...(this.#after.get(method) ?? []), fault]);
  }

  /** Drops all connections, as a killed agent does. Its capsules stay, as VMMs do. */
  async crash(): Promise<void> {
    await this.#server.stop(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.crash();
    await Promise.all([...this.capsules.values()].map(({ processes }) => processes.killAll()));
  }

  /** The capsule's VMM ends by itself. */
  loseCapsule(id: string, reason: string): void {
    const capsule = this.#known(id);
    capsule.status = "error";
    capsule.reason = reason;
    capsule.processes.cutOff();
  }

  async #call<T>(method: Method, work: () => Promise<T> | T): Promise<T> {
    this.calls.push(method);
    this.underWay++;
    try {
      await this.#before.get(method)?.shift()?.();
      const answer = await work();
      await this.#after.get(method)?.shift()?.();
      return answer;
    } finally {
      this.underWay--;
    }
  }

  #serve(router: ConnectRouter): void {
    const call = this.#call.bind(this);
    router.service(HostAgentService, {
      createSandbox: (request) => call("createSandbox", () => this.#create(request)),
      destroySandbox: ({ sandboxId }) => call("destroySandbox", () => this.#destroy(sandboxId)),
      listSandboxes: () => call("listSandboxes", () => this.#list()),
      pingSandbox: ({ sandboxId }) =>
        call("pingSandbox", () => {
          this.#active(sandboxId);
          return {};
        }),
      exec: (request, context) =>
        call("exec", () => {
          const { processes } = this.#active(request.sandboxId);
          const timeoutMs = (request.timeoutSec || EXEC_TIMEOUT_SEC) * 1000;
          return processes.exec(request, { timeoutMs, signal: context.signal });
        }),
      startBackground: (request) =>
        call("startBackground", () => {
          const { processes } = this.#active(request.sandboxId);
          return { pid: processes.startBackground(request, request.tag), tag: request.tag };
        }),
      listProcesses: ({ sandboxId }) =>
        call("listProcesses", () => ({ processes: this.#active(sandboxId).processes.list() })),
      killProcess: ({ sandboxId, selector, signal }) =>
        call("killProcess", () => {
          const { processes } = this.#active(sandboxId);
          processes.kill(toSelector(selector), signal === "SIGTERM" ? "SIGTERM" : "SIGKILL");
          return {};
        }),
      execStream: (request) =>
        this.#events("execStream", request.sandboxId, (processes) =>
          mapped(processes.stream(request, request), toProcessEvent),
        ),
      connectProcess: ({ sandboxId, selector }) =>
        this.#events("connectProcess", sandboxId, (processes) =>
          mapped(processes.connect(toSelector(selector), false), toProcessEvent),
        ),
      ptyAttach: (request) =>
        this.#events("ptyAttach", request.sandboxId, (processes) => {
          const { tag } = request;
          const events =
            request.cmd === ""
              ? processes.connect({ tag }, request.scrollback)
              : processes.startTerminal(request, request);
          return mapped(events, (event) => toTerminalEvent(event, tag));
        }),
      ptySendInput: ({ sandboxId, tag, data }) =>
        call("ptySendInput", () => {
          this.#active(sandboxId).processes.terminal(tag).write(data);
          return {};
        }),
      ptyResize: ({ sandboxId, tag, cols, rows }) =>
        call("ptyResize", () => {
          this.#active(sandboxId).processes.terminal(tag).resize(cols, rows);
          return {};
        }),
      ptyKill: ({ sandboxId, tag }) =>
        call("ptyKill", () => {
          this.#active(sandboxId).processes.kill({ tag }, "SIGKILL");
          return {};
        }),
      getSandboxMetrics: ({ sandboxId, range }) =>
        call("getSandboxMetrics", () => {
          const { status, createdAt } = this.#known(sandboxId);
          if (status !== "paused") this.#runningOne(sandboxId);
          return { points: simulatedPoints(range, createdAt, Date.now()) };
        }),
      writeFile: ({ content, ...file }) =>
        call("writeFile", () => {
          this.#files(file).write(file.path, content);
          return {};
        }),
      readFile: (file) => call("readFile", () => ({ content: this.#files(file).read(file.path) })),
      writeFileStream: (requests) =>
        call("writeFileStream", async () => {
          const chunks: Uint8Array[] = [];
          let meta: SimulatedPath | undefined;
          for await (const { content } of requests) {
            if (content.case === "meta") meta = content.value;
            else if (content.case === "chunk") chunks.push(content.value);
          }
          if (meta === undefined) throw invalid("meta is missing");
          this.#files(meta).write(meta.path, Buffer.concat(chunks));
          return {};
        }),
      readFileStream: (request) => this.#readStream(request),
      listDir: ({ depth, ...file }) =>
        call("listDir", () => ({ entries: this.#files(file).list(file.path, depth) })),
      makeDir: (file) =>
        call("makeDir", () => ({ entry: this.#files(file).makeDirectory(file.path) })),
      removePath: (file) =>
        call("removePath", () => {
          this.#files(file).remove(file.path);
          return {};
        }),
      terminate: ({ pause }) =>
        call("terminate", async () => {
          if (!pause) {
            await Promise.all([...this.capsules.keys()].map((id) => this.#destroy(id)));
            return {};
          }
          const running = [...this.capsules.values()].filter(({ status }) => status === "running");
          await Promise.all(running.map((capsule) => this.pauses.pause(capsule)));
          return {};
        }),
    });
    this.#servePauses(router);
  }

  #servePauses(router: ConnectRouter): void {
    const call = this.#call.bind(this);
    const { pauses } = this;
    router.rpc(HostAgentService.method.pauseSandbox, ({ sandboxId, operationId }) =>
      call("pauseSandbox", () => pauses.pause(this.#known(sandboxId), operationId)),
    );
    router.rpc(HostAgentService.method.resumeSandbox, (request) =>
      call("resumeSandbox", async () => {
        const answer = await pauses.resume(this.#known(request.sandboxId), request);
        return { ...answer, sandboxId: request.sandboxId, metadata: METADATA };
      }),
    );
    router.rpc(HostAgentService.method.createSnapshot, (request) =>
      call("createSnapshot", () => pauses.createSnapshot(this.#known(request.sandboxId), request)),
    );
    router.rpc(HostAgentService.method.deleteSnapshot, ({ templateId }) =>
      call("deleteSnapshot", () => pauses.deleteSnapshot(templateId)),
    );
    router.rpc(HostAgentService.method.forkSandbox, (request) =>
      call("forkSandbox", () => {
        const source = this.#known(request.sandboxId);
        return pauses.fork(source, request, async ({ sandboxId, operationId }) => {
          await this.#before.get("createSandbox")?.shift()?.();
          const { timeoutSec } = request;
          const child = this.#begin(
            { ...source.request, sandboxId, operationId, timeoutSec },
            source.files,
          );
          await child.created;
          return { hostIp: child.hostIp, metadata: METADATA };
        });
      }),
    );
  }

  async *#events<T>(
    method: Method,
    sandboxId: string,
    open: (processes: SimulatedProcesses) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    yield* await this.#call(method, () => open(this.#active(sandboxId).processes));
  }

  #files({ sandboxId, user }: SimulatedPath): SimulatedFiles {
    return this.#active(sandboxId).files.as(user);
  }

  async *#readStream(file: SimulatedPath) {
    const content = await this.#call("readFileStream", () => this.#files(file).read(file.path));
    yield* chunksOf(content, this);
  }

  async #create(request: CreateSandboxRequest) {
    const id = request.sandboxId;
    const known = this.capsules.get(id);
    if (known !== undefined && known.request.operationId !== request.operationId) {
      throw new ConnectError("sandbox_id is taken by another create", Code.AlreadyExists);
    }
    const capsule = known ?? this.#begin(request);
    await capsule.created;
    return { sandboxId: id, status: "running", hostIp: capsule.hostIp, metadata: METADATA };
  }

  #begin(
    request: CreateSandboxRequest,
    files = this.pauses.filesOf(request.templateId),
  ): SimulatedCapsule {
    if (!/^cl-[0-9a-z]{25}$/.test(request.sandboxId)) throw invalid("sandbox_id is malformed");
    if (request.vcpus < 1) throw invalid("vcpus must be at least 1");
    if (request.memoryMb < 1) throw invalid("memory_mb must be at least 1");
    const capsule: SimulatedCapsule = {
      status: "starting",
      reason: "",
      pauseReason: "",
      resumedFrom: "",
      durableAtUnix: 0n,
      ...{ diskUsedBytes: null, sentBytes: null, request },
      hostIp: `10.11.0.${++this.#hostIps}`,
      createdAt: Date.now(),
      lastActiveAt: Date.now(),
      files: files?.copy() ?? new SimulatedFiles(),
      processes: new SimulatedProcesses(request.defaultEnv),
      created: Promise.resolve(),
    };
    this.capsules.set(request.sandboxId, capsule);
    capsule.created = this.#boot(capsule);
    // Whoever asked may have gone: the failure is theirs only.
    capsule.created.catch(() => {});
    return capsule;
  }

  async #boot(capsule: SimulatedCapsule): Promise<void> {
    await Bun.sleep(this.bootMs);
    if (capsule.status !== "starting") {
      throw new ConnectError("the capsule was destroyed while it started", Code.Aborted);
    }
    capsule.status = "running";
  }

  async #destroy(id: string) {
    const capsule = this.capsules.get(id);
    if (capsule === undefined) return {};
    capsule.status = "stopping";
    await capsule.processes.killAll();
    await capsule.created.catch(() => {});
    this.capsules.delete(id);
    return {};
  }

  #list() {
    const sandboxes = [...this.capsules].map(([sandboxId, capsule]) => ({
      ...listed(capsule),
      sandboxId,
      metadata: METADATA,
    }));
    return { sandboxes };
  }

  #active(id: string): SimulatedCapsule {
    const capsule = this.#runningOne(id);
    capsule.lastActiveAt = Date.now();
    return capsule;
  }

  #runningOne(id: string): SimulatedCapsule {
    const capsule = this.#known(id);
    if (capsule.status !== "running") {
      throw new ConnectError("the capsule is not running", Code.FailedPrecondition);
    }
    return capsule;
  }

  #known(id: string): SimulatedCapsule {
    const capsule = this.capsules.get(id);
    if (capsule !== undefined) return capsule;
    throw new ConnectError("the capsule does not exist", Code.NotFound, {
      "wrenn-reason": "capsule",
    });
  }
}

function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}
