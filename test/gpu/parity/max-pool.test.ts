import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('max-pool: equal to float64 and to WASM, other columns untouched, one dispatch', async () => {
  const random = new Random(21);
  let cases = 0;
  for (const kernelSize of [1, 7, 63]) {
    for (const [rows, cols, spare] of [
      [1, 1, 0],
      [3, 2, 1],
      [2, 63, 64],
      [2, 65, 0],
      [3, 300, 5],
    ]) {
      cases++;
      const stride = cols + spare;
      const x = random.normals(rows * stride).map((value) => value - 10);
      const results = await onEach(backends, async (bench) => {
        const out = bench.put(new Float32Array(rows * stride).fill(-7));
        bench.backend.maxPool(out, bench.put(x), rows, cols, stride, kernelSize);
        return bench.f32(out, rows * stride);
      });
      for (const want of [results.reference, results.wasm])
        expectClose(`max-pool ${rows} x ${cols} kernel ${kernelSize}`, results.gpu, want, () => 0);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
