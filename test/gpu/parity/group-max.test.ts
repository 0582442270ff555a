import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('group-max: equal to float64 and to WASM, one dispatch', async () => {
  const random = new Random(31);
  let cases = 0;
  for (const group of [1, 3, 8]) {
    for (const [groups, n] of [
      [1, 1],
      [3, 2],
      [2, 63],
      [2, 65],
      [3, 300],
    ]) {
      cases++;
      const x = random.normals(groups * group * n);
      const results = await onEach(backends, async (bench) => {
        const out = bench.room(groups * n * 4);
        bench.backend.groupMax(out, bench.put(x), groups, group, n);
        return bench.f32(out, groups * n);
      });
      for (const want of [results.reference, results.wasm]) expectClose(`group-max ${groups} x ${group} x ${n}`, results.gpu, want, () => 0);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
