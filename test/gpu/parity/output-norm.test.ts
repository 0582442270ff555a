import { afterAll, beforeAll, expect, test } from 'vitest';
import { at } from '../../../worker/backend/backend.ts';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => {
  expect(backends.gpu.buffers.live).toEqual([]);
  backends.gpu.close();
});

test.each([1, 2] as const)('output-norm: 1e-5 relative to float64 and to WASM, in one slab and in three, one dispatch each, p = %i', async (p) => {
  const random = new Random(90 + p);
  const before = backends.gpu.recorder.counts.dispatches;
  let dispatches = 0;
  for (const [n, rows, heads, group, d] of [
    [1, 8, 1, 1, 16],
    [2, 9, 2, 3, 32],
    [63, 64, 3, 1, 20],
    [65, 31, 1, 3, 64],
    [300, 50, 2, 2, 32],
  ]) {
    const Hq = heads * group;
    const [v, w] = [random.normals(n * heads * d), random.normals(rows * Hq * d, 0.05)];
    for (const slabs of [[rows], [1, 4, rows - 5]]) {
      dispatches += slabs.length;
      const results = await onEach(backends, async (bench) => {
        const [values, weight, out] = [bench.put(v), bench.put(w), bench.room(Hq * n * 4)];
        let first = 0;
        for (const slab of slabs) {
          const shape = { queryHeads: Hq, kvHeads: heads, headDim: d };
          bench.backend.outputNorm(out, values, at(weight, first * Hq * d * 4), n, slab, shape, p, first > 0);
          first += slab;
        }
        return bench.f32(out, Hq * n);
      });
      for (const want of [results.reference, results.wasm])
        expectClose(`output-norm ${n} x ${rows} x ${heads} x ${group} x ${d}`, results.gpu, want, (value) => 1e-5 * value);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches - before).toBe(dispatches);
});
