import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('group-mean: 1e-6 of the largest value of float64, 4e-7 relative of WASM (same order of sums, but divisions are inexact), one dispatch', async () => {
  const random = new Random(31);
  let cases = 0;
  for (const group of [1, 2, 3, 4, 5, 6, 7, 8]) {
    for (const [groups, n] of [
      [1, 1],
      [2, 255],
      [3, 257],
      [8, 64],
    ]) {
      cases++;
      const x = random.normals(groups * group * n);
      const results = await onEach(backends, async (bench) => {
        const out = bench.room(groups * n * 4);
        bench.backend.groupMean(out, bench.put(x), groups, group, n);
        return bench.f32(out, groups * n);
      });
      expectClose(`group-mean ${groups} x ${group} x ${n}`, results.gpu, results.reference, () => 5e-6); // normal numbers stay below 5
      expectClose(`group-mean ${groups} x ${group} x ${n}`, results.gpu, results.wasm, (value) => 4e-7 * Math.abs(value));
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
