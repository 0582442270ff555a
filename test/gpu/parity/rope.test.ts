import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('rope: 4e-7 of the larger of the pair, queries and keys at once', async () => {
  const random = new Random(2);
  for (const d of [4, 12, 32, 64, 80, 96, 128]) {
    for (const [n, heads0, heads1] of [
      [1, 1, 0],
      [1, 8, 2],
      [3, 5, 1],
      [17, 2, 2],
      [130, 9, 3],
    ] as const) {
      const [x0, x1, table] = [random.normals(n * heads0 * d), random.normals(Math.max(1, n * heads1) * d), random.normals(n * d)];
      const results = await onEach(backends, async (bench) => {
        const parts = [{ x: bench.put(x0), heads: heads0 as number }];
        if (heads1 > 0) parts.push({ x: bench.put(x1), heads: heads1 });
        bench.backend.rope(parts, bench.put(table), n, d);
        const read = await Promise.all(parts.map(({ x, heads }) => bench.f32(x, n * heads * d)));
        return Float32Array.from(read.flatMap((numbers) => [...numbers]));
      });
      const most = 40; // |x| and |cos| of normal numbers stay below 6: products below 36
      for (const want of [results.reference, results.wasm])
        expectClose(`rope ${n} x ${heads0}+${heads1} x ${d}`, results.gpu, want, () => 4e-7 * most);
    }
  }
});

test('nothing stays allocated', () => {
  expect(backends.gpu.buffers.live).toEqual([]);
});
