import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('gather: every bit of the rows that each head names, NaNs with their payload too, and nothing beside them; one dispatch', async () => {
  const random = new Random(71);
  let cases = 0;
  for (const d of [4, 18, 32, 64, 80, 128]) {
    for (const [H, n, count, more] of [
      [1, 1, 1, 0],
      [8, 50, 50, 3],
      [3, 130, 40, 0],
      [2, 300, 129, 1],
    ]) {
      cases++;
      const stride = count + more;
      const x = Uint32Array.from({ length: n * H * d }, () => random.int(0, 0xffffffff));
      const order = Uint32Array.from({ length: H * stride }, () => random.int(0, n - 1));
      const results = await onEach(backends, async (bench) => {
        const out = bench.put(new Uint32Array(count * H * d + 4).fill(7));
        bench.backend.gather(out, bench.put(x), { rows: bench.put(order), stride }, count, H, d);
        return bench.u32(out, count * H * d + 4);
      });
      expect(results.gpu).toEqual(results.wasm);
      expect(results.gpu).toEqual(results.reference);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
