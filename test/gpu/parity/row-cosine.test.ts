import { afterAll, beforeAll, expect, test } from 'vitest';
import { at } from '../../../worker/backend/backend.ts';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('row-cosine: 1e-5 of [-1, 1] from float64 and from WASM, one dispatch', async () => {
  const random = new Random(91);
  const shapes = [
    [1, 4],
    [2, 18],
    [63, 64],
    [65, 300],
    [300, 100],
    [3, 1024],
  ];
  for (const [rows, cols] of shapes) {
    const [x, y] = [random.normals((rows + 1) * cols), random.normals(rows * cols)];
    const results = await onEach(backends, async (bench) => {
      const out = bench.room((rows + 1) * 4);
      bench.backend.rowCosine(at(out, 4), at(bench.put(x), cols * 4), bench.put(y), rows, cols);
      return bench.f32(at(out, 4), rows);
    });
    for (const want of [results.reference, results.wasm]) expectClose(`row-cosine ${rows} x ${cols}`, results.gpu, want, () => 1e-5);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(shapes.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});
