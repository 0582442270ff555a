import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('weighted-gram: 1e-5 of the diagonal of float64 and of WASM (order of sums), symmetric, two dispatches', async () => {
  const random = new Random(72);
  const shapes = [
    [1, 2, 1, 16],
    [2, 1, 3, 32],
    [63, 2, 1, 36],
    [65, 2, 3, 64],
    [300, 1, 3, 80],
    [530, 2, 1, 128],
  ];
  for (const [n, heads, group, d] of shapes) {
    const rows = heads * group;
    const x = random.normals(n * heads * d, random.pick([1e-2, 1, 30]));
    const stride = n + 3;
    const weights = group === 3 ? random.normals(rows * stride).map(Math.abs) : null;
    const centres = group === 1 || n === 300 ? random.normals(rows * d) : null;
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(rows * d * d * 4);
      const w = weights && { rows: bench.put(weights), stride, epsilon: 0.25 };
      bench.backend.weightedGram(out, bench.put(x), w, centres && bench.put(centres), n, rows, heads, d, 1 / n);
      return bench.f32(out, rows * d * d);
    });
    for (const want of [results.reference, results.wasm]) {
      expectClose(`weighted-gram ${n} x ${heads} x ${group} x ${d}`, results.gpu, want, (_, at) => {
        const [r, i, j] = [Math.floor(at / (d * d)), Math.floor(at / d) % d, at % d];
        return 1e-5 * Math.sqrt(results.reference[(r * d + i) * d + i] * results.reference[(r * d + j) * d + j]);
      });
    }
    for (let r = 0; r < rows; r++)
      for (let i = 0; i < d; i++)
        for (let j = 0; j < i; j++) if (results.gpu[(r * d + i) * d + j] !== results.gpu[(r * d + j) * d + i]) throw new Error('not symmetric');
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(2 * shapes.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('weighted-gram: tokens in more than one span', async () => {
  const random = new Random(73);
  const [n, d] = [1500, 8];
  const x = random.normals(n * d);
  const results = await onEach(backends, async (bench) => {
    const out = bench.room(d * d * 4);
    bench.backend.weightedGram(out, bench.put(x), null, null, n, 1, 1, d, 1);
    return bench.f32(out, d * d);
  });
  expectClose('weighted-gram of 1500 tokens', results.gpu, results.reference, () => 1e-5 * n);
});
