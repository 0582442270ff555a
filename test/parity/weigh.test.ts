import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('weigh: one rounding a step of float64 over 200 random shapes; rows of a group share their weights; in place too', () => {
  const random = new Random(71);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const [wRows, shared, n] = [random.int(1, 4), random.pick([1, 3]), random.pick([1, 2, 3, 4, 63, 65, 300])];
    const rows = wRows * shared;
    const epsilon = random.pick([0, 0.01, 1]);
    const [x, w] = [random.normals(rows * n), random.normals(wRows * n)];
    const [xAt, wAt] = [kernels.put(x), kernels.put(w)];
    const outAt = random.next() < 0.3 ? xAt : kernels.put(new Float32Array(rows * n));
    kernels.exports.weigh(outAt, xAt, wAt, rows, wRows, n, epsilon);
    const out = kernels.f32(outAt, rows * n);
    for (let r = 0; r < rows; r++)
      for (let j = 0; j < n; j++) {
        const sum = Math.fround(x[r * n + j] + Math.fround(epsilon));
        expect(out[r * n + j]).toBe(Math.fround(sum * w[Math.floor((r * wRows) / rows) * n + j]));
      }
  }
});
