import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('key-norm: 1e-6 relative of float64 and of WASM (order of sums), with both signs, one dispatch', async () => {
  const random = new Random(41);
  let cases = 0;
  for (const d of [16, 32, 64, 80, 96, 128]) {
    for (const [n, heads, sign] of [
      [1, 1, 1],
      [63, 8, -1],
      [65, 3, -1],
      [200, 2, 1],
    ]) {
      cases++;
      const k = random.normals(n * heads * d, random.pick([0, 1e-4, 1, 100]));
      const results = await onEach(backends, async (bench) => {
        const out = bench.room(heads * n * 4);
        bench.backend.keyNorm(out, bench.put(k), n, heads, d, sign);
        return bench.f32(out, heads * n);
      });
      for (const want of [results.reference, results.wasm])
        expectClose(`key-norm ${n} x ${heads} x ${d}`, results.gpu, want, (value) => 1e-6 * Math.abs(value));
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('key-norm: equal keys have equal norms, wherever they lie (ties stay ties)', async () => {
  const key = new Random(42).normals(80);
  const { gpu } = await onEach(backends, async (bench) => {
    const out = bench.room(300 * 4);
    bench.backend.keyNorm(out, bench.put(Float32Array.from({ length: 300 * 80 }, (_, i) => key[i % 80])), 300, 1, 80, -1);
    return bench.f32(out, 300);
  });
  expect(new Set(gpu).size).toBe(1);
});

test('key-norm: a head_dim that is no multiple of 4 is refused', () => {
  const { gpu } = backends;
  const block = gpu.alloc(1024, 'keys');
  expect(() => gpu.keyNorm(block, block, 1, 1, 18, 1)).toThrow('a multiple of 4, got 18');
  gpu.free(block);
});
