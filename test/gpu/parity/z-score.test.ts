import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('z-score: 1e-5 (1 + |z|) of float64 and of WASM, rows and all of them, on a range of columns; the same bits again', async () => {
  const random = new Random(81);
  for (const [rows, cols, first, spare] of [
    [1, 1, 0, 0],
    [3, 2, 1, 0],
    [2, 63, 8, 4],
    [2, 65, 0, 0],
    [3, 300, 4, 1],
    [8, 5000, 0, 0],
  ]) {
    for (const whole of [false, true]) {
      const stride = first + cols + spare;
      const x = random.normals(rows * stride, 0.01).map((value) => value * value + 1e-3); // a long tail, as attention has
      const run = () =>
        onEach(backends, async (bench) => {
          const at = bench.put(x);
          bench.backend.zScore(at, rows, stride, first, cols, whole);
          return bench.f32(at, rows * stride);
        });
      const results = await run();
      for (const want of [results.reference, results.wasm])
        expectClose(`z-score ${rows} x ${cols} from ${first} whole ${whole}`, results.gpu, want, (value, i) =>
          i % stride < first || i % stride >= first + cols ? 0 : 1e-5 * (1 + Math.abs(value)),
        );
      expect((await run()).gpu).toEqual(results.gpu);
    }
  }
  expect(backends.gpu.buffers.live).toEqual([]);
});
