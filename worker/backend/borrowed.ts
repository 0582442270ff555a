/** Device memory that is given back all at once, on every path. */
import type { Backend, DeviceBuffer } from './backend.ts';

export class Borrowed {
  readonly #backend: Backend;
  readonly #blocks: DeviceBuffer[] = [];

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Throws OutOfDeviceMemory. */
  readonly scratch = (bytes: number, label: string): DeviceBuffer => {
    const block = this.#backend.alloc(bytes, label);
    this.#blocks.push(block);
    return block;
  };

  giveBack(): void {
    for (const block of this.#blocks) this.#backend.free(block);
    this.#blocks.length = 0;
  }
}
