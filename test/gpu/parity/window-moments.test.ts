import { afterAll, beforeAll, expect, test } from 'vitest';
import { at } from '../../../worker/backend/backend.ts';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('window-moments: means and entropies 1e-5 relative of float64 and of WASM, variances of mean^2 + variance; the same bits again', async () => {
  const random = new Random(41);
  for (const [window, n, queryHeads, kvHeads, headDim, slidingWindow] of [
    [1, 1, 3, 1, 32, 0],
    [2, 2, 1, 1, 4, 0],
    [16, 63, 6, 2, 64, 0],
    [17, 65, 3, 3, 80, 0],
    [32, 300, 6, 2, 32, 0],
    [33, 300, 2, 1, 16, 50],
    [20, 150, 4, 2, 32, 7],
  ]) {
    for (const spread of [0, 1.7]) {
      const shape = { queryHeads, kvHeads, headDim, slidingWindow, scale: 1 / Math.sqrt(headDim) };
      const size = queryHeads * n;
      const [q, k] = [random.normals((window + 1) * queryHeads * headDim, spread), random.normals(n * kvHeads * headDim, spread)];
      const run = () =>
        onEach(backends, async (bench) => {
          const out = bench.room((3 * size + 1) * 4);
          bench.backend.windowMoments(at(out, 4), at(bench.put(q), queryHeads * headDim * 4), bench.put(k), window, n, shape);
          return bench.f32(at(out, 4), 3 * size);
        });
      const results = await run();
      const what = `window-moments W ${window} n ${n} ${JSON.stringify(shape)} spread ${spread}`;
      for (const want of [results.reference, results.wasm]) {
        const largest = want.subarray(0, size).reduce((a, b) => Math.max(a, b), 0);
        const room = (value: number, i: number): number => {
          const mean = want[i % size];
          return 1e-11 * largest + [1e-5 * mean, 1e-5 * (mean * mean + value), 1e-5 * value + 1e-6 * window * mean][Math.floor(i / size)];
        };
        expectClose(what, results.gpu, want, room);
      }
      expect((await run()).gpu).toEqual(results.gpu);
    }
  }
  expect(backends.gpu.buffers.live).toEqual([]);
});
