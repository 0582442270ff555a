import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('avg-pool: 1e-6 relative of float64, 4e-7 of WASM (same order of sums, but divisions are inexact), other columns untouched, one dispatch', async () => {
  const random = new Random(21);
  for (const [rows, cols, stride, kernelSize] of [
    [1, 1, 1, 1],
    [3, 1, 4, 5],
    [2, 2, 2, 63],
    [5, 255, 300, 3],
    [4, 256, 256, 5],
    [1, 257, 258, 255],
    [8, 1000, 1064, 7],
  ]) {
    const x = Float32Array.from({ length: rows * stride }, () => random.next());
    const results = await onEach(backends, async (bench) => {
      const [from, out] = [bench.put(x), bench.put(new Float32Array(rows * stride).fill(-7))];
      bench.backend.avgPool(out, from, rows, cols, stride, kernelSize);
      return bench.f32(out, rows * stride);
    });
    expectClose(`avg-pool ${rows} x ${cols} by ${kernelSize}`, results.gpu, results.reference, (value) => 1e-6 * Math.abs(value));
    expectClose(`avg-pool ${rows} x ${cols} by ${kernelSize}`, results.gpu, results.wasm, (value) => 4e-7 * Math.abs(value));
    for (let i = 0; i < x.length; i++) if (i % stride >= cols) expect(results.gpu[i]).toBe(-7);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(7);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('avg-pool: equal windows give equal results, wherever they lie (ties stay ties)', async () => {
  const random = new Random(22);
  const pattern = Float32Array.from({ length: 9 }, () => random.next());
  const { gpu } = await onEach(backends, async (bench) => {
    const [x, out] = [bench.put(Float32Array.from({ length: 900 }, (_, j) => pattern[j % 9])), bench.room(3600)];
    bench.backend.avgPool(out, x, 1, 900, 900, 5);
    return bench.f32(out, 900);
  });
  for (let j = 11; j < 898; j++) expect(gpu[j]).toBe(gpu[j - 9]);
});
