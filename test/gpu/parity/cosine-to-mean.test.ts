import { afterAll, beforeAll, expect, test } from 'vitest';
import { scoringScratchBytes } from '../../../worker/backend/webgpu/scoring.ts';
import { type Backends, Bench, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('cosine-to-mean: 1e-5 of [-1, 1] of float64 and of WASM (the mean is an f32 sum), zero keys among them, two dispatches', async () => {
  const random = new Random(51);
  let cases = 0;
  for (const d of [16, 32, 64, 80, 96, 128, 1024]) {
    for (const [n, heads, sign] of [
      [1, 1, 1],
      [255, 3, -1],
      [257, 2, -1],
      [600, 1, 1],
    ]) {
      cases++;
      const k = random.normals(n * heads * d, random.pick([1e-3, 1, 100]));
      const offset = random.pick([0, 1]); // with 1, keys share a direction, as real ones do
      for (let c = 0; c < k.length; c += 3) k[c] += offset;
      if (n > 1) k.fill(0, 0, heads * d); // token 0: cosine 0
      const results = await onEach(backends, async (bench) => {
        const out = bench.room(heads * n * 4);
        bench.backend.cosineToMean(out, bench.put(k), n, heads, d, sign);
        return bench.f32(out, heads * n);
      });
      for (const want of [results.reference, results.wasm]) expectClose(`cosine-to-mean ${n} x ${heads} x ${d}`, results.gpu, want, () => 1e-5);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(2 * cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('cosine-to-mean: toy numbers; the same bits again; within its scratch', async () => {
  const { gpu } = backends;
  const bench = new Bench(gpu);
  // unit keys (1,0), (0,1), (1,0): mean (2/3, 1/3), cosines 2/sqrt 5, 1/sqrt 5; the length of a key does not matter
  const toy = new Float32Array(12);
  [toy[0], toy[5], toy[8]] = [3, 0.5, 1];
  const few = bench.room(12);
  gpu.cosineToMean(few, bench.put(toy), 3, 1, 4, -1);
  const [n, shape] = [3000, { queryHeads: 4, kvHeads: 4, headDim: 32 }];
  const [keys, first, second] = [bench.put(new Random(52).normals(n * 4 * 32)), bench.room(n * 16), bench.room(n * 16)];
  gpu.buffers.trim();
  const used = gpu.buffers.usedBytes;
  gpu.buffers.peakBytes = used;
  gpu.cosineToMean(first, keys, n, 4, 32, 1);
  expect(gpu.buffers.peakBytes - used).toBeLessThanOrEqual(scoringScratchBytes(n, 1, shape));
  gpu.cosineToMean(second, keys, n, 4, 32, 1);
  const [cosines, one, other] = await Promise.all([bench.f32(few, 3), bench.u32(first, n * 4), bench.u32(second, n * 4)]);
  for (const [j, x] of [-2, -1, -2].entries()) expect(cosines[j]).toBeCloseTo(x / Math.sqrt(5), 6);
  expect(one).toEqual(other);
  bench.close();
});
