import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('quadratic-form: 1e-5 of the sum of sizes of float64 and of WASM (order of sums), one dispatch', async () => {
  const random = new Random(73);
  const shapes = [
    [1, 2, 1, 16],
    [2, 1, 3, 32],
    [63, 2, 1, 36],
    [65, 2, 3, 64],
    [300, 1, 3, 80],
    [530, 2, 1, 128],
  ];
  let cases = 0;
  for (const [n, heads, group, d] of shapes) {
    for (const [withLinear, withQuadratic, squared] of [
      [true, false, false],
      [true, true, false],
      [false, true, true],
    ]) {
      cases++;
      const rows = heads * group;
      const stride = n + 3;
      const x = random.normals(n * heads * d);
      const vectors = random.normals(rows * d);
      const matrices = random.normals(rows * d * d);
      for (let at = 0; at < matrices.length; at += d * d)
        for (let a = 0; a < d; a++) for (let b = a + 1; b < d; b++) matrices[at + a * d + b] = squared ? 0 : matrices[at + b * d + a];
      const results = await onEach(backends, async (bench) => {
        const out = bench.put(new Float32Array(rows * stride).fill(7));
        const linear = withLinear ? { vectors: bench.put(vectors), factor: 0.5 } : undefined;
        const quadratic = withQuadratic ? { matrices: bench.put(matrices), factor: 0.1, squared } : undefined;
        bench.backend.quadraticForm(out, stride, bench.put(x), { linear, quadratic }, n, rows, heads, d);
        return bench.f32(out, rows * stride);
      });
      // normal numbers: |A x|² and xᵀ A x are sums of d or d² of them, or so
      const size = (withLinear ? d : 0) + (withQuadratic ? (squared ? d * d : 3 * d) : 0);
      for (const want of [results.reference, results.wasm])
        expectClose(`quadratic-form ${n} x ${heads} x ${group} x ${d}`, results.gpu, want, () => 1e-5 * size);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
