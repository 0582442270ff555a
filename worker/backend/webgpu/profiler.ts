/** Device time of each kernel, by timestamp queries at the borders of compute passes: while one is set, every dispatch is a pass of its own. */
const SLOTS = 4096; // the most that WebGPU promises of one query set

export interface KernelTime {
  readonly kernel: string;
  dispatches: number;
  ms: number;
}

export class Profiler {
  /** By kernel and entry. */
  readonly times = new Map<string, KernelTime>();
  /** Dispatches between two collections that there were no slots left for. */
  untimed = 0;
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer;
  #labels: string[] = [];

  /** The device must have timestamp-query. */
  constructor(device: GPUDevice) {
    this.#device = device;
    this.#queries = device.createQuerySet({ type: 'timestamp', count: SLOTS });
    this.#resolved = device.createBuffer({ size: SLOTS * 8, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    this.#staging = device.createBuffer({ size: SLOTS * 8, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  }

  /** Where the pass of this dispatch is to write when it begins and ends. */
  next(label: string): GPUComputePassTimestampWrites | undefined {
    const at = this.#labels.length * 2;
    if (at >= SLOTS) {
      this.untimed++;
      return undefined;
    }
    this.#labels.push(label);
    return { querySet: this.#queries, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  resolve(encoder: GPUCommandEncoder): void {
    if (this.#labels.length > 0) encoder.resolveQuerySet(this.#queries, 0, this.#labels.length * 2, this.#resolved, 0);
  }

  /** Adds what was timed since the last call. Everything must be submitted. */
  async collect(): Promise<void> {
    const labels = this.#labels;
    if (labels.length === 0) return;
    this.#labels = [];
    const encoder = this.#device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, labels.length * 16);
    this.#device.queue.submit([encoder.finish()]);
    await this.#staging.mapAsync(GPUMapMode.READ, 0, labels.length * 16);
    const stamps = new BigUint64Array(this.#staging.getMappedRange(0, labels.length * 16).slice(0)); // nanoseconds
    this.#staging.unmap();
    for (const [i, kernel] of labels.entries()) {
      const time = this.times.get(kernel) ?? { kernel, dispatches: 0, ms: 0 };
      time.dispatches++;
      time.ms += Math.max(0, Number(stamps[i * 2 + 1] - stamps[i * 2])) / 1e6;
      this.times.set(kernel, time);
    }
  }

  close(): void {
    this.#queries.destroy();
    this.#resolved.destroy();
    this.#staging.destroy();
  }
}
