/** models/needle on the device and on WASM, for what must be the same on both. */
import { afterAll, beforeAll, expect } from 'vitest';
import type { EntryType } from '../../worker/backend/backend.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { openGolden } from './golden.ts';
import { openOnGpu } from './gpu-backends.ts';

export interface OnBoth {
  /** From the first test of the file on. */
  readonly gpu: EdgeEngine;
  readonly wasm: EdgeEngine;
  /** What the device holds for requests and contexts, with nothing kept for later. */
  gpuMemory(): { kv_used_bytes: number; kv_reserved_bytes: number; used_bytes: number };
}

/** Opened before the file's tests, closed after them. */
export function needleOnBoth(options: Parameters<typeof openOnGpu>[1]): OnBoth {
  let gpu: EdgeEngine;
  let wasm: EdgeEngine;
  beforeAll(async () => {
    gpu = (await openOnGpu('needle', options)).engine;
    wasm = await openGolden('needle', options);
  });
  afterAll(() => {
    gpu.close();
    wasm.close();
  });
  return {
    get gpu() {
      return gpu;
    },
    get wasm() {
      return wasm;
    },
    gpuMemory() {
      gpu.backend.trim();
      const { kv_used_bytes, kv_reserved_bytes, used_bytes } = gpu.health().memory;
      return { kv_used_bytes, kv_reserved_bytes, used_bytes };
    },
  };
}

/** The largest difference of any logit. */
export function worstOf(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  expect(a.length).toBe(b.length);
  return Math.max(...a.map((logits, step) => logits.reduce((worst, x, id) => Math.max(worst, Math.abs(x - b[step][id])), 0)));
}

/**
 * How far logits may lie apart, of some 30 from the least to the largest: f32 sums in another order, and rows rounded after them. An int8 is the next one where that
 * falls on its border, 1/127 of the row's largest: 0.001 without a press, up to 0.1 where a press has left the model little to go by.
 */
export function closeOf(entryType: unknown = 'f32'): number {
  return { f32: 1e-3, f16: 1e-2, int8: 0.25 }[entryType as EntryType];
}
