import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NormKind } from '../../../worker/backend/backend.ts';
import { scoringScratchBytes } from '../../../worker/backend/webgpu/scoring.ts';
import { type Backends, Bench, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

const kinds: readonly NormKind[] = ['key', 'value', 'kv_avg', 'kv_product'];

test('norm-share: 1e-5 relative of float64 and of WASM (f32 sums), segments of zeros among them, three dispatches', async () => {
  const random = new Random(61);
  let cases = 0;
  for (const [n, heads, d] of [
    [1, 1, 16],
    [63, 8, 32],
    [65, 3, 64],
    [257, 2, 80],
    [600, 1, 96],
    [300, 2, 128],
    [1500, 2, 32],
  ])
    for (const kind of kinds) {
      cases++;
      const segment = random.pick([0, 1, 7, 16, n, 4096]);
      const size = random.pick([1e-3, 1, 100]);
      const [k, v] = [random.normals(n * heads * d, size), random.normals(n * heads * d, size)];
      if (n > 63) k.fill(0, 0, 20 * heads * d);
      if (n === 65) v.fill(0);
      const results = await onEach(backends, async (bench) => {
        const out = bench.room(heads * n * 4);
        bench.backend.normShare(out, bench.put(k), bench.put(v), n, heads, d, segment, kind);
        return bench.f32(out, heads * n);
      });
      for (const want of [results.reference, results.wasm])
        expectClose(`norm-share ${n} x ${heads} x ${d} by ${segment}, ${kind}`, results.gpu, want, (value) => 1e-5 * value);
    }
  expect(backends.gpu.recorder.counts.dispatches).toBe(3 * cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('norm-share: equal segments give equal shares, wherever they lie (ties stay ties)', async () => {
  const random = new Random(62);
  const [k, v] = [0, 1].map(() => {
    const segment = random.normals(5 * 80);
    return Float32Array.from({ length: 300 * 80 }, (_, i) => segment[i % (5 * 80)]);
  });
  const { gpu } = await onEach(backends, async (bench) => {
    const out = bench.room(300 * 4);
    bench.backend.normShare(out, bench.put(k), bench.put(v), 300, 1, 80, 5, 'kv_product');
    return bench.f32(out, 300);
  });
  for (let t = 5; t < 300; t++) expect(gpu[t]).toBe(gpu[t - 5]);
});

test('norm-share: the same bits again; within its scratch; a head_dim that is no multiple of 4 is refused', async () => {
  const { gpu } = backends;
  const bench = new Bench(gpu);
  const random = new Random(63);
  const [n, shape] = [3000, { queryHeads: 4, kvHeads: 4, headDim: 32 }];
  const [k, v] = [bench.put(random.normals(n * 4 * 32)), bench.put(random.normals(n * 4 * 32))];
  const [first, second] = [bench.room(n * 16), bench.room(n * 16)];
  gpu.buffers.trim();
  const used = gpu.buffers.usedBytes;
  gpu.buffers.peakBytes = used;
  gpu.normShare(first, k, v, n, 4, 32, 16, 'kv_product');
  expect(gpu.buffers.peakBytes - used).toBeLessThanOrEqual(scoringScratchBytes(n, 1, shape));
  gpu.normShare(second, k, v, n, 4, 32, 16, 'kv_product');
  const [one, other] = await Promise.all([bench.u32(first, n * 4), bench.u32(second, n * 4)]);
  expect(one).toEqual(other);
  expect(() => gpu.normShare(first, k, v, 1, 1, 18, 16, 'key')).toThrow('a multiple of 4, got 18');
  bench.close();
  expect(gpu.buffers.live).toEqual([]);
});
