import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('weigh: 3e-7 relative of the two products of float64 and of WASM (FMA), rows of a group share their weights, one dispatch', async () => {
  const random = new Random(71);
  let cases = 0;
  for (const shared of [1, 3]) {
    for (const [wRows, n] of [
      [1, 1],
      [3, 2],
      [2, 63],
      [2, 65],
      [3, 300],
    ]) {
      for (const epsilon of [0, 0.01]) {
        cases++;
        const rows = wRows * shared;
        const [x, w] = [random.normals(rows * n), random.normals(wRows * n)];
        const results = await onEach(backends, async (bench) => {
          const out = bench.room(rows * n * 4);
          bench.backend.weigh(out, bench.put(x), bench.put(w), rows, wRows, n, epsilon);
          return bench.f32(out, rows * n);
        });
        const room = (_: number, i: number) => 3e-7 * (Math.abs(x[i]) + epsilon) * Math.abs(w[Math.floor(i / n / shared) * n + (i % n)]);
        for (const want of [results.reference, results.wasm]) expectClose(`weigh ${rows} by ${wRows} x ${n}`, results.gpu, want, room);
      }
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
