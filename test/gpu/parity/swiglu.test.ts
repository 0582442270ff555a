import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('swiglu: 2e-6 relative of float64 and of WASM, in place or not, for gates of any size', async () => {
  const random = new Random(3);
  for (const count of [1, 255, 256, 257, 10_000]) {
    for (const inPlace of [false, true]) {
      const gate = random.normals(count, 10);
      gate.set([-200, 200, 0].slice(0, count));
      const up = random.normals(count);
      const results = await onEach(backends, async (bench) => {
        const [g, u] = [bench.put(gate), bench.put(up)];
        const out = inPlace ? g : bench.room(count * 4);
        bench.backend.swiglu(out, g, u, count);
        return bench.f32(out, count);
      });
      for (const want of [results.reference, results.wasm])
        expectClose(`swiglu ${count}`, results.gpu, want, (value) => 3e-6 * Math.abs(value) + 1e-30);
    }
  }
});

test('nothing stays allocated', () => {
  expect(backends.gpu.buffers.live).toEqual([]);
});
