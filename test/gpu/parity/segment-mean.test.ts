import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('segment-mean: 1e-5 of the largest value off float64 and WASM, one dispatch; equal within a segment', async () => {
  const random = new Random(82);
  let cases = 0;
  for (const [n, rows, first, end, width] of [
    [1, 1, 0, 1, 20],
    [2, 3, 0, 2, 1],
    [63, 2, 4, 63, 20],
    [65, 1, 0, 1, 3],
    [300, 3, 5, 236, 20],
    [300, 1, 30, 30, 7],
    [1500, 2, 0, 1499, 1024],
  ]) {
    cases++;
    const x = random.normals(rows * n);
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(rows * n * 4);
      bench.backend.segmentMean(out, bench.put(x), rows, n, first, end, width);
      return bench.f32(out, rows * n);
    });
    const most = Math.max(...x.map(Math.abs));
    for (const want of [results.reference, results.wasm])
      expectClose(`segment-mean ${n} x ${rows} by ${width} in [${first}, ${end})`, results.gpu, want, () => 1e-5 * most);
    for (let j = first + 1; j < end; j++) if (j % width !== 0) expect(results.gpu[j]).toBe(results.gpu[j - 1]);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
