import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('row-softmax: 1e-5 relative of float64 and of WASM (exp, f32 sums), columns beyond stay, one dispatch', async () => {
  const random = new Random(76);
  let cases = 0;
  for (const [rows, cols] of [
    [1, 1],
    [3, 2],
    [6, 63],
    [2, 65],
    [4, 300],
    [2, 1030],
  ]) {
    for (const peak of [false, true]) {
      cases++;
      const stride = cols + 3;
      const x = random.normals(rows * stride, random.pick([0.1, 1, 10]));
      const results = await onEach(backends, async (bench) => {
        const block = bench.put(x);
        bench.backend.rowSoftmax(block, rows, cols, stride, peak);
        return bench.f32(block, rows * stride);
      });
      for (const want of [results.reference, results.wasm])
        expectClose(`row-softmax ${rows} x ${cols}`, results.gpu, want, (value, at) => (at % stride < cols ? 1e-5 * Math.abs(value) + 1e-30 : 0));
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
