import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('merge-values: 2e-6 of the largest |v| from float64 and from WASM (division, FMA); one dispatch', async () => {
  const random = new Random(83);
  let dispatches = 0;
  for (const d of [4, 20, 64, 80, 128]) {
    for (const [n, H] of [
      [1, 1],
      [2, 3],
      [63, 2],
      [65, 1],
      [300, 2],
    ]) {
      const v = random.normals(n * H * d);
      v.fill(0, 0, d);
      const threshold = Float32Array.from({ length: H }, () => random.pick([-1, 0, 0.3]));
      const [target, similarity] = [new Uint32Array(H * n).fill(0xffffffff), new Float32Array(H * n).fill(-2)];
      for (let h = 0; h < H; h++) {
        for (let e = 0; e < n; e++) {
          if (e % 3 === 0) continue; // kept
          target[h * n + e] = 3 * random.int(0, Math.floor((n - 1) / 3));
          similarity[h * n + e] = random.next() * 2 - 1;
        }
      }
      const results = await onEach(backends, async (bench) => {
        const [values, norms] = [bench.put(v), bench.room(H * n * 4)];
        bench.backend.keyNorm(norms, values, n, H, d, 1);
        bench.backend.mergeValues(values, bench.put(target), bench.put(similarity), norms, bench.put(threshold), n, H, d);
        return bench.f32(values, v.length);
      });
      dispatches += 2; // with the norms
      const most = v.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      for (const want of [results.reference, results.wasm]) expectClose(`merge-values ${n} x ${H} x ${d}`, results.gpu, want, () => 2e-6 * most);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(dispatches);
  expect(backends.gpu.buffers.live).toEqual([]);
});
