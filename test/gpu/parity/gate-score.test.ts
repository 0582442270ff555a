import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('gate-score: 1e-6 (1 + the largest difference of logits) relative of float64 and of WASM, one dispatch', async () => {
  const random = new Random(72);
  let cases = 0;
  for (const n of [1, 2, 63, 65, 300]) {
    for (const group of [1, 3]) {
      for (const [width, sinks] of [
        [4, 1],
        [16, 16],
        [20, 5],
      ]) {
        cases++;
        const kvHeads = 2;
        const [q, k] = [random.normals(n * kvHeads * group * width), random.normals(n * kvHeads * width)];
        const [base, bias] = [random.normals(kvHeads * sinks * width), random.normals(kvHeads * group)];
        const results = await onEach(backends, async (bench) => {
          const out = bench.room(kvHeads * n * 4);
          bench.backend.gateScore(out, bench.put(q), bench.put(k), bench.put(base), bench.put(bias), n, { kvHeads, group, width, sinks });
          return bench.f32(out, kvHeads * n);
        });
        for (const want of [results.reference, results.wasm])
          expectClose(`gate-score ${n} x ${group} x ${width}`, results.gpu, want, (value) => 2e-5 * value); // logits of normal vectors differ by less than 20
      }
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
