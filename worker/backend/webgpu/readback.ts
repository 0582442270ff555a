/** Bytes from the device: copied into a buffer that the host can map. Reads of one turn of the event loop share a submission, and so one wait. */
import type { View } from '../backend.ts';
import type { Faults } from './faults.ts';
import type { Recorder } from './recorder.ts';

const MOST_IDLE = 16;

export class Readback {
  readonly #device: GPUDevice;
  readonly #recorder: Recorder;
  readonly #faults: Faults;
  readonly #idle: GPUBuffer[] = [];
  #submitting: Promise<void> | null = null;

  constructor(device: GPUDevice, recorder: Recorder, faults: Faults) {
    this.#device = device;
    this.#recorder = recorder;
    this.#faults = faults;
  }

  async read(source: View, bytes: number): Promise<Uint8Array> {
    this.#faults.throwIfFailed();
    if (bytes === 0) return new Uint8Array();
    const staging = this.#staging(bytes);
    this.#recorder.copyOut(staging, source, bytes);
    try {
      const copy = await this.#faults.unlessFailed(this.#map(staging, bytes));
      this.#idle.push(staging);
      if (this.#idle.length > MOST_IDLE) this.#idle.shift()?.destroy();
      return copy;
    } catch (error) {
      staging.destroy();
      throw error;
    }
  }

  /** A device that goes away at any of its steps makes the next one throw an error of its own. */
  async #map(staging: GPUBuffer, bytes: number): Promise<Uint8Array> {
    const size = Math.ceil(bytes / 4) * 4;
    await this.#submitSoon();
    await staging.mapAsync(GPUMapMode.READ, 0, size);
    await this.#faults.settled();
    await this.#recorder.profiler?.collect();
    const copy = new Uint8Array(staging.getMappedRange(0, size).slice(0), 0, bytes);
    staging.unmap();
    return copy;
  }

  close(): void {
    for (const staging of this.#idle) staging.destroy();
    this.#idle.length = 0;
  }

  #submitSoon(): Promise<void> {
    this.#submitting ??= Promise.resolve().then(() => {
      this.#submitting = null;
      this.#recorder.submit();
    });
    return this.#submitting;
  }

  /** The smallest that is big enough, unless it is much too big. */
  #staging(bytes: number): GPUBuffer {
    const fit = this.#idle.filter(({ size }) => size >= bytes && size <= 4 * bytes + 4096).sort((a, b) => a.size - b.size)[0];
    if (fit) this.#idle.splice(this.#idle.indexOf(fit), 1);
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 256)));
    return fit ?? this.#device.createBuffer({ label: 'readback', size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  }
}
