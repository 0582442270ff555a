import { beforeEach, expect, test } from 'vitest';
import { guarded } from '../support/guarded.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function tokenMean(x: Float32Array, n: number, heads: number, d: number): Float32Array {
  const out = guarded(kernels, heads * d * 4);
  kernels.exports.tokenMean(out.address, kernels.put(x), n, heads, d);
  out.check();
  return kernels.f32(out.address, heads * d).slice();
}

test('token-mean: the float64 mean rounded once, over 100 random shapes, far from zero too', () => {
  const random = new Random(71);
  for (let i = 0; i < 100; i++) {
    kernels.reset();
    const [n, heads, d] = [random.pick([1, 2, 63, 65, 300]), random.int(1, 4), random.pick([2, 4, 18, 20, 64, 80])];
    const offset = random.pick([0, 1000]);
    const x = random.normals(n * heads * d).map((value) => value + offset);
    const out = tokenMean(x, n, heads, d);
    for (let c = 0; c < heads * d; c++) {
      let sum = 0;
      for (let t = 0; t < n; t++) sum += x[t * heads * d + c];
      expect(Math.abs(out[c] - sum / n), `n ${n} heads ${heads} d ${d} [${c}]`).toBeLessThanOrEqual(6e-8 * Math.abs(sum / n) + 1e-12);
    }
  }
});
