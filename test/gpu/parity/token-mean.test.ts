import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('token-mean: 1e-6 of the largest |x| of float64 and of WASM (f32 sums), two dispatches', async () => {
  const random = new Random(71);
  const shapes = [
    [1, 2, 16],
    [2, 1, 32],
    [63, 2, 36],
    [65, 6, 64],
    [300, 1, 80],
    [1030, 2, 128],
  ];
  for (const [n, heads, d] of shapes) {
    const x = random.normals(n * heads * d).map((value) => value + random.pick([0, 100]));
    const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(heads * d * 4);
      bench.backend.tokenMean(out, bench.put(x), n, heads, d);
      return bench.f32(out, heads * d);
    });
    for (const want of [results.reference, results.wasm]) expectClose(`token-mean ${n} x ${heads} x ${d}`, results.gpu, want, () => 1e-6 * largest);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(2 * shapes.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});
