// The control plane's own metrics, for Prometheus.
//
// Labels have few values: routes are patterns, methods and states come from lists, and nothing that a
// client, a team or a capsule is called is ever one. What a capsule uses is asked of the API.

import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { ProcessMetrics } from "../../proto/metrics/process-metrics.ts";
import type { AgentCallOutcome } from "../agents/call-observer.ts";
import { CAPSULE_STATES, ENDED_STATES } from "../capsule-states.ts";
import type { Db } from "../db/client.ts";
import { DatabaseFactsReader } from "./database-facts.ts";

/** From a read of memory to a cold boot. */
const SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60];
const LIVING_STATES = CAPSULE_STATES.filter((state) => !isEnded(state));
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]);

export interface ServedRequest {
  readonly method: string;
  /** The pattern of its route; undefined when there is none. */
  readonly route: string | undefined;
  readonly status: number;
  /** Until the answer's head; bodies may stream for hours. */
  readonly seconds: number;
}

/** A background loop, as its driver tells. */
export interface LoopReport {
  readonly name: string;
  readonly everyMs: number;
  readonly passes: number;
  readonly failures: number;
  readonly lastError: string | null;
  readonly lastCounts: Readonly<Record<string, number>>;
  /** Of all passes. */
  readonly seconds: number;
  readonly lastSeconds: number;
  readonly lastEndedAt: Date | null;
}

export interface ControlPlaneMetricsDeps {
  readonly db: Db;
  readonly connectionsMax: number;
  readonly loops: () => readonly LoopReport[];
  readonly version: string;
  readonly monotonicMs: () => number;
}

export class ControlPlaneMetrics implements Disposable {
  readonly #registry = new Registry();
  readonly #registers = [this.#registry];
  readonly #process: ProcessMetrics;
  readonly #requests: Histogram;
  readonly #agentCalls: Histogram;
  readonly #loops: () => readonly LoopReport[];
  readonly #fillDatabase: () => Promise<void>;

  constructor(deps: ControlPlaneMetricsDeps) {
    const { version } = deps;
    this.#process = new ProcessMetrics(this.#registry, { name: "cp", version });
    this.#requests = new Histogram({
      name: "wrenn_cp_http_request_duration_seconds",
      help: "Requests of the API until their answer began; 101 is a WebSocket.",
      labelNames: ["method", "route", "status"],
      buckets: SECONDS_BUCKETS,
      registers: this.#registers,
    });
    this.#agentCalls = new Histogram({
      name: "wrenn_cp_agent_call_duration_seconds",
      help: "Calls to agents until their end, that of a stream included.",
      labelNames: ["method", "outcome"],
      buckets: SECONDS_BUCKETS,
      registers: this.#registers,
    });
    this.#fillDatabase = this.#addDatabase(deps);
    this.#loops = deps.loops;
    this.#addLoops();
  }

  observeRequest({ method, route, status, seconds }: ServedRequest): void {
    const labels = {
      method: METHODS.has(method) ? method : "other",
      route: route ?? "none",
      status,
    };
    this.#requests.observe(labels, seconds);
  }

  observeAgentCall({ method, outcome, seconds }: AgentCallOutcome): void {
    this.#agentCalls.observe({ method, outcome }, seconds);
  }

  /** The background loops, as they are now. */
  loops(): readonly LoopReport[] {
    return this.#loops();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Everything in Prometheus' text format. */
  async text(): Promise<string> {
    await this.#fillDatabase();
    return await this.#registry.metrics();
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }

  /** What fills the database's gauges. */
  #addDatabase({ db, connectionsMax, monotonicMs }: ControlPlaneMetricsDeps): () => Promise<void> {
    const reader = new DatabaseFactsReader(db, monotonicMs);
    const registers = this.#registers;
    const gauge = (name: string, help: string, labelNames: string[] = []) =>
      new Gauge({ name: `wrenn_cp_${name}`, help, labelNames, registers });
    const up = gauge(
      "database_up",
      "1 if the database answers; if not, its other metrics are gone.",
    );
    const seconds = gauge("database_seconds", "A small question to the database, wait included.");
    const capsules = gauge("capsules", "Capsules that have not ended, by state.", ["state"]);
    const connections = gauge(
      "database_connections",
      "Connections of all control planes to the database, by what they do.",
      ["state"],
    );
    gauge("database_connections_max", "Of this control plane's pool.").set(connectionsMax);

    return async () => {
      const facts = await reader.read();
      up.set(facts === null ? 0 : 1);
      seconds.remove();
      for (const filled of [capsules, connections]) filled.reset();
      if (facts === null) return;
      seconds.set(facts.seconds);
      for (const state of LIVING_STATES) capsules.set({ state }, facts.capsules[state] ?? 0);
      for (const [state, count] of Object.entries(facts.connections)) {
        connections.set({ state }, count);
      }
    };
  }

  #addLoops(): void {
    const loops = this.#loops;
    const add = (name: string, help: string, measure: (loop: LoopReport) => number) =>
      new Counter({
        name: `wrenn_cp_loop_${name}`,
        help,
        labelNames: ["loop"],
        registers: this.#registers,
        collect() {
          this.reset();
          for (const loop of loops()) this.inc({ loop: loop.name }, measure(loop));
        },
      });
    add("passes_total", "Passes of each background loop.", ({ passes }) => passes);
    add("failures_total", "Passes that failed.", ({ failures }) => failures);
    add("seconds_total", "What the passes took.", ({ seconds }) => seconds);
  }
}

function isEnded(state: string): boolean {
  return ENDED_STATES.some((ended) => ended === state);
}
