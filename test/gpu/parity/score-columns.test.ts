import { afterAll, beforeAll, expect, test } from 'vitest';
import { at, type Columns } from '../../../worker/backend/backend.ts';
import { scoringScratchBytes } from '../../../worker/backend/webgpu/scoring.ts';
import { type Backends, Bench, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

const shapeOf = (queryHeads: number, kvHeads: number, headDim: number, slidingWindow = 0) => ({
  queryHeads,
  kvHeads,
  headDim,
  slidingWindow,
  scale: 1 / Math.sqrt(headDim),
});

/** m, n, start, columns */
const cases = [
  [1, 1, 0, 1, shapeOf(3, 1, 32)],
  [2, 2, 0, 2, shapeOf(3, 3, 4)],
  [63, 63, 0, 63, shapeOf(6, 2, 64)],
  [65, 65, 0, 65, shapeOf(1, 1, 80)],
  [300, 300, 0, 300, shapeOf(6, 2, 32)],
  [300, 300, 0, 300, shapeOf(2, 1, 32, 70)],
  [40, 300, 260, 200, shapeOf(3, 1, 64)],
  [17, 100, 50, 100, shapeOf(2, 2, 16, 5)],
  [65, 65, null, 65, shapeOf(3, 1, 32, 9)], // the sliding window is of no matter
  [33, 129, null, 20, shapeOf(4, 2, 96)],
] as const;

test('score-columns: 1e-5 relative of float64 and of WASM, causal and not, sums and maxima, row scales, on top of what is there', async () => {
  const random = new Random(21);
  for (const [m, n, start, columns, shape] of cases) {
    for (const reduce of ['sum', 'max'] as const) {
      const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
      const stride = columns + 5;
      const [q, k] = [random.normals((m + 1) * Hq * d), random.normals(n * H * d)];
      const scales = random.normals(m + 1).map(Math.abs);
      const before = random.normals(Hq * stride).map((x) => Math.abs(x) / n);
      for (const [scaled, accumulate] of [
        [false, false],
        [true, false],
        [true, true],
      ]) {
        const results = await onEach(backends, async (bench) => {
          const out = bench.room((Hq + 1) * stride * 4);
          bench.backend.write(at(out, stride * 4), before);
          const rowScale = scaled ? at(bench.put(scales), 4) : null;
          const wanted: Columns = { queries: m, n, start, reduce, columns, stride, rowScale, accumulate };
          bench.backend.scoreColumns(at(out, stride * 4), at(bench.put(q), Hq * d * 4), bench.put(k), wanted, shape);
          return bench.f32(at(out, stride * 4), Hq * stride);
        });
        const largest = results.reference.reduce((a, b) => Math.max(a, b), 0);
        const what = `score-columns ${m} x ${n} from ${start} ${reduce} ${scaled} ${accumulate} ${JSON.stringify(shape)}`;
        for (const want of [results.reference, results.wasm])
          expectClose(what, results.gpu, want, (value, i) => (i % stride < columns ? 1e-5 * value + 1e-11 * largest : 0)); // other columns stay
      }
    }
  }
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('score-columns: three dispatches at most, the same bits again, within its scratch', async () => {
  const { gpu } = backends;
  const random = new Random(22);
  const shape = shapeOf(6, 2, 32);
  for (const [m, n, dispatches] of [
    [64, 64, 2],
    [256, 300, 3],
  ]) {
    const bench = new Bench(gpu);
    const [q, k] = [bench.put(random.normals(m * 192)), bench.put(random.normals(n * 64))];
    const [first, second] = [bench.room(24 * n), bench.room(24 * n)];
    const wanted: Columns = { queries: m, n, start: n - m, reduce: 'sum', columns: n, stride: n, rowScale: null, accumulate: false };
    const [before, used] = [gpu.recorder.counts.dispatches, gpu.buffers.usedBytes];
    gpu.buffers.peakBytes = used;
    gpu.scoreColumns(first, q, k, wanted, shape);
    expect(gpu.recorder.counts.dispatches - before).toBe(dispatches);
    expect(gpu.buffers.peakBytes - used).toBeLessThanOrEqual(scoringScratchBytes(n, m, shape));
    gpu.scoreColumns(second, q, k, wanted, shape);
    expect(await bench.u32(first, 6 * n)).toEqual(await bench.u32(second, 6 * n));
    bench.close();
  }
  expect(gpu.buffers.live).toEqual([]);
});
