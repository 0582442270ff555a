import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('cosine-to: 1e-5 of scale of float64 and of WASM (order of sums), one dispatch', async () => {
  const random = new Random(77);
  const shapes = [
    [1, 2, 1, 16],
    [2, 1, 3, 32],
    [63, 2, 1, 36],
    [65, 2, 3, 64],
    [300, 1, 3, 80],
    [530, 2, 1, 128],
  ];
  for (const [n, heads, group, d] of shapes) {
    const [rows, stride, scale] = [heads * group, n + 3, random.pick([1, 5])];
    const [x, anchors] = [random.normals(n * heads * d, random.pick([1e-3, 1, 100])), random.normals(rows * d)];
    x.fill(0, 0, d);
    const results = await onEach(backends, async (bench) => {
      const out = bench.put(new Float32Array(rows * stride).fill(7));
      bench.backend.cosineTo(out, stride, bench.put(x), bench.put(anchors), n, rows, heads, d, scale);
      return bench.f32(out, rows * stride);
    });
    for (const want of [results.reference, results.wasm])
      expectClose(`cosine-to ${n} x ${heads} x ${group} x ${d}`, results.gpu, want, () => 1e-5 * scale);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(shapes.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});
