import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('blend: 3e-7 relative of the two products of float64 and of WASM (FMA), one dispatch', async () => {
  const random = new Random(72);
  const counts = [1, 2, 63, 65, 300, 5000];
  for (const count of counts) {
    const [x, y] = [random.normals(count), random.normals(count)];
    const [a, b] = [random.next(), random.next() - 1];
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(count * 4);
      bench.backend.blend(out, bench.put(x), bench.put(y), a, b, count);
      return bench.f32(out, count);
    });
    const room = (_: number, i: number) => 3e-7 * (Math.abs(a * x[i]) + Math.abs(b * y[i]));
    for (const want of [results.reference, results.wasm]) expectClose(`blend ${count}`, results.gpu, want, room);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(counts.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});
