import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('sketch: 1e-5 of |x| |column| of float64 and of WASM (order of sums), one dispatch', async () => {
  const random = new Random(75);
  const shapes = [
    [1, 2, 16, 4],
    [2, 1, 32, 48],
    [63, 2, 36, 48],
    [65, 2, 64, 8],
    [300, 1, 80, 48],
  ];
  for (const [n, heads, d, width] of shapes) {
    const [x, centres, phi] = [random.normals(n * heads * d), random.normals(heads * d), random.normals(heads * d * width)];
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(n * heads * width * 4);
      bench.backend.sketch(out, bench.put(x), bench.put(centres), bench.put(phi), n, heads, d, width);
      return bench.f32(out, n * heads * width);
    });
    for (const want of [results.reference, results.wasm]) expectClose(`sketch ${n} x ${heads} x ${d} x ${width}`, results.gpu, want, () => 1e-5 * d);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(shapes.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});
