import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('norm-scale: 1e-6 relative to float64 over 150 random shapes; only the first vectors count', () => {
  const random = new Random(51);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [n, heads, d] = [random.pick([1, 2, 63, 65, 300]), random.int(1, 4), random.pick([2, 4, 18, 64, 80, 128])];
    const count = random.int(1, n);
    const [x, v] = [random.normals(heads * n), random.normals(n * heads * d)];
    v.fill(1e6, count * heads * d);
    const [xAt, vAt, outAt] = [kernels.put(x), kernels.put(v), kernels.put(new Float32Array(heads * n + 4).fill(7))];
    kernels.exports.normScale(outAt, xAt, vAt, n, count, heads, d);
    const out = kernels.f32(outAt, heads * n + 4);
    expect([...out.subarray(heads * n)]).toEqual([7, 7, 7, 7]);
    for (let h = 0; h < heads; h++) {
      const norms = Array.from({ length: count }, (_, t) => {
        const row = v.subarray((t * heads + h) * d, (t * heads + h + 1) * d);
        return row.reduce((sum, value) => sum + Math.abs(value), 0);
      });
      for (let j = 0; j < n; j++) {
        const want = x[h * n + j] * Math.max(...norms);
        if (!(Math.abs(out[h * n + j] - want) <= 1e-6 * Math.abs(want))) throw new Error(`n ${n} d ${d} [${h},${j}]: ${out[h * n + j]}, not ${want}`);
      }
    }
  }
});
