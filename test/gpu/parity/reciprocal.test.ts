import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('reciprocal: 3 units in the last place of float64 and of WASM (division), one dispatch', async () => {
  const random = new Random(73);
  const counts = [1, 2, 63, 65, 300, 5000];
  for (const count of counts) {
    const x = random.normals(count, 10).map((value) => value || 1);
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(count * 4);
      bench.backend.reciprocal(out, bench.put(x), count);
      return bench.f32(out, count);
    });
    for (const want of [results.reference, results.wasm]) expectClose(`reciprocal ${count}`, results.gpu, want, (_, i) => 3.6e-7 * Math.abs(want[i]));
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(counts.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});
