import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('gelu: 3e-7 |x| of float64 and of WASM (exp, division), in place or not', async () => {
  const random = new Random(3);
  for (const count of [1, 255, 256, 257, 10_000]) {
    for (const inPlace of [false, true]) {
      const x = random.normals(count, 4);
      x.set([-200, 200, 0].slice(0, count));
      const results = await onEach(backends, async (bench) => {
        const input = bench.put(x);
        const out = inPlace ? input : bench.room(count * 4);
        bench.backend.gelu(out, input, count);
        return bench.f32(out, count);
      });
      for (const want of [results.reference, results.wasm]) expectClose(`gelu ${count}`, results.gpu, want, (_, i) => 3e-7 * Math.abs(x[i]));
    }
  }
  expect(backends.gpu.buffers.live).toEqual([]);
});
