import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('prune-channels: the zeros of float64 and of WASM, every other bit untouched; two dispatches', async () => {
  const random = new Random(84);
  let cases = 0;
  for (const [d, zeroed] of [
    [4, 1],
    [20, 20],
    [64, 32],
    [80, 0],
    [128, 77],
    [256, 100],
  ]) {
    for (const [n, window, group, counts] of [
      [1, 1, 1, [1]],
      [2, 2, 3, [1, 2]],
      [63, 32, 2, [20, 63, 0]],
      [300, 5, 3, [129, 300]],
    ] as const) {
      cases++;
      const H = counts.length;
      const [k, q] = [random.normals(n * H * d), random.normals(window * H * group * d)];
      // Energies of channels lie a factor of 1.5 and more apart, but for two that are equal: sums in another order choose the same.
      const scale = random.shuffled(Array.from({ length: d }, (_, c) => 1.25 ** Math.max(1, c - d / 2)));
      for (let i = 0; i < k.length; i++) k[i] = Math.sign(k[i]) * scale[i % d];
      for (let i = 0; i < q.length; i++) q[i] = Math.sign(q[i]);
      const orders = counts.map(() => random.shuffled(Array.from({ length: n }, (_, t) => t)));
      const results = await onEach(backends, async (bench) => {
        const keys = bench.put(k);
        const order = { rows: bench.put(Uint32Array.from(orders.flat())), stride: n };
        const shape = { queryHeads: H * group, kvHeads: H, headDim: d };
        bench.backend.pruneChannels(keys, bench.put(q), window, { order, counts }, zeroed, shape);
        return bench.f32(keys, k.length);
      });
      expect(results.gpu).toEqual(results.wasm);
      expect(results.gpu).toEqual(results.reference);
      const gone = results.gpu.reduce((sum, x) => sum + Number(x === 0), 0);
      expect(gone).toBe(zeroed * counts.reduce((a: number, b) => a + b, 0));
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(2 * cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
