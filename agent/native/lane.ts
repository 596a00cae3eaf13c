// A few Workers that share one queue of slow native calls, so that the main loop never waits for
// the kernel.
import type { Reply, Task } from "./worker.ts";

// Callers are capsules and pool fillers, some dozens; more means that something does not wait.
const QUEUE_MAX = 4096;

// In a compiled program modules lie below /$bunfs/root by their path from the build's --root, which
// is agent/, and the Worker is an entry point of its own: bun build --compile --root agent
// agent/main.ts agent/native/worker.ts. From source it lies beside this file.
const WORKER = import.meta.url.startsWith("file:///$bunfs/")
  ? "/$bunfs/root/native/worker.js"
  : new URL("./worker.ts", import.meta.url);

interface Job {
  readonly task: Task;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

interface Seat {
  readonly worker: Worker;
  job: Job | null;
}

export class Lane {
  readonly #nativeDir: string;
  readonly #workersMax: number;
  readonly #seats: Seat[] = [];
  readonly #queue: Job[] = [];
  #closed = false;
  #drained: (() => void) | null = null;

  constructor(nativeDir: string, workersMax: number) {
    this.#nativeDir = nativeDir;
    this.#workersMax = workersMax;
  }

  /** Runs the task on a free Worker, starting one if all are busy and the bound allows it. */
  run(task: Task): Promise<Reply> {
    if (this.#closed) return Promise.reject(new Error("The native library is closed"));
    if (this.#queue.length >= QUEUE_MAX) {
      return Promise.reject(new Error(`More than ${QUEUE_MAX} native calls are waiting`));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ task, resolve, reject });
      this.#assign();
    });
  }

  /** Calls in the queue, and those that a Worker is at. */
  get calls(): { waiting: number; running: number } {
    const running = this.#seats.filter((seat) => seat.job !== null).length;
    return { waiting: this.#queue.length, running };
  }

  /** Refuses further tasks, waits for those accepted and ends the Workers. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#isBusy()) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    for (const { worker } of this.#seats.splice(0)) worker.terminate();
  }

  #isBusy(): boolean {
    return this.#queue.length > 0 || this.#seats.some((seat) => seat.job !== null);
  }

  #assign(): void {
    while (this.#queue.length > 0) {
      const seat = this.#seats.find((candidate) => candidate.job === null) ?? this.#addSeat();
      if (seat === null) return;
      const job = this.#queue.shift();
      if (job === undefined) return;
      seat.job = job;
      seat.worker.postMessage(job.task);
    }
    if (!this.#isBusy()) this.#drained?.();
  }

  #addSeat(): Seat | null {
    if (this.#seats.length >= this.#workersMax) return null;
    const worker = new Worker(WORKER);
    const seat: Seat = { worker, job: null };
    worker.onmessage = (event: MessageEvent<Reply>) => {
      const job = seat.job;
      seat.job = null;
      job?.resolve(event.data);
      this.#assign();
    };
    worker.onerror = (event) => this.#dropSeat(seat, event.message);
    worker.postMessage({ nativeDir: this.#nativeDir });
    this.#seats.push(seat);
    return seat;
  }

  // A Worker only errs if the library does not load or the runtime fails: its job is lost, the
  // others go on with a fresh one.
  #dropSeat(seat: Seat, message: string): void {
    const at = this.#seats.indexOf(seat);
    if (at >= 0) this.#seats.splice(at, 1);
    seat.worker.terminate();
    seat.job?.reject(new Error(`A native worker failed: ${message}`));
    seat.job = null;
    this.#assign();
  }
}
