/** models/needle on the device and on WASM, for what must be the same on both. */
import { afterAll, beforeAll } from 'vitest';
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
