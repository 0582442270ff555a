/** What the operations of the WebGPU backend share. */

import type { Buffers, GpuBlock } from './buffers.ts';
import type { Feature } from './device.ts';
import type { Recorder } from './recorder.ts';

export interface Gpu {
  readonly recorder: Recorder;
  readonly buffers: Buffers;
  readonly features: ReadonlySet<Feature>;
  /** A software adapter: kernels have entries for it that do without barriers. */
  readonly software: boolean;
  /** The AssemblyScript module's memory, where lengths and page tables of a PagedLayer lie. */
  readonly ledgerMemory: WebAssembly.Memory;
}

/** Device memory for what `record` records. It is free for the next operation at once: the queue keeps the order. */
export function withScratch(gpu: Gpu, bytes: number, label: string, record: (block: GpuBlock) => void): void {
  const block = gpu.buffers.alloc(bytes, label);
  try {
    record(block);
  } finally {
    gpu.buffers.free(block);
  }
}
