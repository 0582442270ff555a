/** What a device can do, and what kernels take of its time: for `edgepress bench`. */
import type { WebGpuBackend } from '../webgpu.ts';
import { type KernelTime, Profiler } from './profiler.ts';

export interface Profile {
  /** The slowest first. */
  readonly kernels: readonly KernelTime[];
  readonly untimed: number;
}

/** Device time by kernel while `work` runs; null where the adapter has no timestamp queries. Slower than without: every dispatch is a pass. */
export async function profile({ recorder, features }: WebGpuBackend, work: () => Promise<unknown>): Promise<Profile | null> {
  if (!features.has('timestamp-query')) return null;
  recorder.submit();
  const profiler = new Profiler(recorder.device);
  recorder.profiler = profiler;
  try {
    await work();
    recorder.submit();
    await profiler.collect();
    return { kernels: [...profiler.times.values()].sort((a, b) => b.ms - a.ms), untimed: profiler.untimed };
  } finally {
    recorder.profiler = null;
    profiler.close();
  }
}

const COPY_BYTES = 64 * 2 ** 20;
const COPIES = 8;

/** Bytes read and written a second by copies from buffer to buffer, the best of a few runs: what memory gives at most. */
export async function copyBandwidth(backend: WebGpuBackend): Promise<number> {
  const blocks = [backend.alloc(COPY_BYTES, 'copy source'), backend.alloc(COPY_BYTES, 'copy target')];
  try {
    let best = 0;
    for (let run = 0; run < 4; run++) {
      await backend.read(blocks[0], 4); // nothing else is under way
      const started = performance.now();
      for (let i = 0; i < COPIES; i++) backend.copy(blocks[(i + 1) % 2], blocks[i % 2], COPY_BYTES);
      await backend.read(blocks[0], 4);
      const copied = performance.now() - started;
      best = Math.max(best, (2 * COPIES * COPY_BYTES) / (Math.max(0.01, copied - (await waitMs(backend))) / 1000));
    }
    return best;
  } finally {
    for (const block of blocks) backend.free(block);
    backend.trim();
  }
}

/** What a read of nothing costs. */
async function waitMs(backend: WebGpuBackend): Promise<number> {
  const block = backend.alloc(4, 'wait');
  const started = performance.now();
  await backend.read(block, 4);
  backend.free(block);
  return performance.now() - started;
}
