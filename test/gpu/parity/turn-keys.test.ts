import { afterAll, beforeAll, expect, test } from 'vitest';
import { ropeTable } from '../../../worker/backend/rope-table.ts';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('turn-keys: 1e-6 of the larger of the pair from float64 and from WASM (FMA); other rows keep every bit; one dispatch', async () => {
  const random = new Random(81);
  let cases = 0;
  for (const d of [4, 20, 64, 80, 128]) {
    for (const [H, n, count, stride] of [
      [1, 1, 1, 1],
      [2, 2, 1, 2],
      [3, 63, 20, 20],
      [1, 65, 65, 65],
      [2, 300, 129, 140],
    ]) {
      cases++;
      const k = random.normals(n * H * d);
      const invFreq = Float32Array.from({ length: d / 2 }, (_, c) => 10000 ** ((-2 * c) / d));
      const orders = Array.from({ length: H }, () => random.shuffled(Array.from({ length: n }, (_, t) => t)).slice(0, stride));
      const results = await onEach(backends, async (bench) => {
        const keys = bench.put(k);
        const order = { rows: bench.put(Uint32Array.from(orders.flat())), stride };
        bench.backend.turnKeys(keys, bench.put(ropeTable(invFreq, 0, n)), order, count, n, H, d);
        return bench.f32(keys, k.length);
      });
      const pair = (i: number): number => Math.hypot(k[i], k[i % d < d / 2 ? i + d / 2 : i - d / 2]);
      const stays = (i: number): boolean => !orders[Math.floor(i / d) % H].slice(0, count).includes(Math.floor(i / d / H));
      for (const want of [results.reference, results.wasm])
        expectClose(`turn-keys ${count} of ${n} x ${H} x ${d}`, results.gpu, want, (_, i) => (stays(i) ? 0 : 1e-6 * pair(i)));
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
