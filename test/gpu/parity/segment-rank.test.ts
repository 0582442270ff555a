import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('segment-rank: the counts of float64 and of WASM (4e-7 relative for the division), ties, NaN and -0 among the values, one dispatch', async () => {
  const random = new Random(71);
  let cases = 0;
  for (const [rows, n, first, width, segments] of [
    [1, 5, 4, 1, 1],
    [2, 40, 7, 33, 1],
    [3, 260, 0, 3, 80],
    [2, 700, 4, 128, 4],
    [1, 600, 1, 299, 2],
    [2, 50, 4, 16, 0],
  ]) {
    cases++;
    const x = Float32Array.from({ length: rows * n }, (_, i) => {
      const inside = i % n >= first && i % n < first + width * segments;
      return random.pick([inside ? NaN : 1, 0, -0, random.int(-3, 3), random.normal()]); // NaN need not keep its bits when it is copied
    });
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(rows * n * 4);
      bench.backend.segmentRank(out, bench.put(x), rows, n, first, width, segments);
      return bench.f32(out, rows * n);
    });
    for (const want of [results.reference, results.wasm])
      expectClose(`segment-rank ${rows} x ${n}, ${segments} x ${width} from ${first}`, results.gpu, want, (value) => 4e-7 * Math.abs(value));
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
