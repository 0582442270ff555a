import { afterAll, beforeAll, expect, test } from 'vitest';
import { at } from '../../../worker/backend/backend.ts';
import { scoringScratchBytes } from '../../../worker/backend/webgpu/scoring.ts';
import { type Backends, Bench, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

const shapeOf = (queryHeads: number, kvHeads: number, headDim: number, slidingWindow = 0, scale = 1 / Math.sqrt(headDim)) => ({
  queryHeads,
  kvHeads,
  headDim,
  slidingWindow,
  scale,
});

/** Exp of logits of size x has a relative error of x * 2^-23 at the least; of what is far below the largest, only that it is. */
const room = (largest: number) => (value: number) => 1e-5 * Math.abs(value) + 1e-11 * largest;

test('score-window: 1e-5 relative of float64 and of WASM, heads in groups of 1 to 8, windows and lengths around the block of 16', async () => {
  const random = new Random(11);
  const cases = [
    [1, 1, shapeOf(1, 1, 32)],
    [1, 65, shapeOf(8, 1, 64)],
    [2, 2, shapeOf(6, 2, 80)],
    [15, 16, shapeOf(5, 1, 96)],
    [16, 80, shapeOf(4, 4, 128)],
    [17, 300, shapeOf(7, 1, 32)],
    [32, 63, shapeOf(6, 3, 64)],
    [33, 129, shapeOf(16, 2, 16)],
    [64, 700, shapeOf(6, 2, 32)],
    [5, 400, shapeOf(4, 2, 32, 1)],
    [20, 150, shapeOf(4, 2, 32, 7)],
    [64, 200, shapeOf(3, 1, 64, 64)],
    [33, 333, shapeOf(2, 2, 80, 250)],
    [8, 100, shapeOf(2, 1, 64, 1000)],
  ] as const;
  for (const [window, n, shape] of cases) {
    for (const spread of [0, 1.7]) {
      const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
      const [q, k] = [random.normals((window + 1) * Hq * d, spread), random.normals(n * H * d, spread)];
      const results = await onEach(backends, async (bench) => {
        const out = bench.room((Hq + 1) * n * 4);
        // The last queries of those that are there, and a row of `out` that is not the first.
        bench.backend.scoreWindow(at(out, n * 4), at(bench.put(q), Hq * d * 4), bench.put(k), window, n, shape);
        return bench.f32(at(out, n * 4), Hq * n);
      });
      const largest = results.reference.reduce((a, b) => Math.max(a, b), 0);
      const what = `score-window W ${window} n ${n} ${JSON.stringify(shape)}`;
      for (const want of [results.reference, results.wasm]) expectClose(what, results.gpu, want, room(largest));
      const hidden = shape.slidingWindow > 0 ? Math.max(0, n - window - shape.slidingWindow + 1) : 0;
      for (let a = 0; a < Hq; a++) expect(results.gpu.subarray(a * n, a * n + hidden).every((x) => x === 0)).toBe(true);
    }
  }
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('score-window: logits of hundreds do not overflow; a key that is not a number spoils its own head only', async () => {
  const q = new Float32Array(5 * 2 * 16).fill(10);
  const k = new Float32Array(40 * 16).fill(-10); // logits -1600
  k.fill(10, 7 * 16, 8 * 16); // but for key 7: 1600
  const spoilt = new Random(13).normals(20 * 2 * 16);
  spoilt[3 * 32 + 5] = Number.NaN; // head 0
  const { gpu } = await onEach(backends, async (bench) => {
    const [peaked, nan] = [bench.room(2 * 40 * 4), bench.room(4 * 20 * 4)];
    bench.backend.scoreWindow(peaked, bench.put(q), bench.put(k), 5, 40, shapeOf(2, 1, 16, 0, 1));
    bench.backend.scoreWindow(nan, bench.put(new Random(14).normals(4 * 4 * 16)), bench.put(spoilt), 4, 20, shapeOf(4, 2, 16));
    return Promise.all([bench.f32(peaked, 80), bench.f32(nan, 80)]);
  });
  expectClose(
    'one key takes everything',
    gpu[0],
    Float32Array.from({ length: 80 }, (_, i) => Number(i % 40 === 7)),
    () => 1e-6,
  );
  expect(gpu[1].subarray(0, 40).some(Number.isNaN)).toBe(true);
  expect(gpu[1].subarray(40).every(Number.isFinite)).toBe(true);
});

test('score-window: three dispatches at most, two for one span, the same bits again, within its scratch', async () => {
  const { gpu } = backends;
  const random = new Random(15);
  for (const [window, n, dispatches] of [
    [32, 64, 2],
    [32, 500, 3],
    [1, 500, 3],
  ]) {
    const shape = shapeOf(6, 2, 32);
    gpu.buffers.trim();
    const bench = new Bench(gpu);
    const [q, k, first, second] = [
      bench.put(random.normals(window * 192)),
      bench.put(random.normals(n * 64)),
      bench.room(24 * n),
      bench.room(24 * n),
    ];
    const [before, used] = [gpu.recorder.counts.dispatches, gpu.buffers.usedBytes];
    gpu.buffers.peakBytes = used;
    gpu.scoreWindow(first, q, k, window, n, shape);
    expect(gpu.recorder.counts.dispatches - before).toBe(dispatches);
    expect(gpu.buffers.peakBytes - used).toBeLessThanOrEqual(scoringScratchBytes(n, window, shape));
    gpu.scoreWindow(second, q, k, window, n, shape);
    expect(await bench.u32(first, 6 * n)).toEqual(await bench.u32(second, 6 * n));
    bench.close();
  }
  expect(gpu.buffers.live).toEqual([]);
});
