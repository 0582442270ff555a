import { afterAll, beforeAll, expect, test } from 'vitest';
import { at } from '../../../worker/backend/backend.ts';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('norm-scale: 1e-6 relative of float64 and of WASM, only the first vectors count, two dispatches', async () => {
  const random = new Random(51);
  let cases = 0;
  for (const [n, count, heads, d] of [
    [1, 1, 1, 4],
    [2, 1, 3, 32],
    [63, 63, 2, 64],
    [65, 60, 1, 80],
    [300, 290, 3, 128],
    [700, 700, 2, 16],
  ]) {
    cases++;
    const [x, v] = [random.normals(heads * n), random.normals((n + 1) * heads * d)];
    v.fill(1e6, (count + 1) * heads * d);
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(heads * n * 4);
      bench.backend.normScale(out, bench.put(x), at(bench.put(v), heads * d * 4), n, count, heads, d);
      return bench.f32(out, heads * n);
    });
    for (const want of [results.reference, results.wasm])
      expectClose(`norm-scale ${n} of ${count} x ${heads} x ${d}`, results.gpu, want, (value) => 1e-6 * Math.abs(value));
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(2 * cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
