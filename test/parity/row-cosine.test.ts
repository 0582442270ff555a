import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('row-cosine: 1e-6 of [-1, 1] from float64 over 150 random shapes; a row of zeros is like nothing', () => {
  const random = new Random(91);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [rows, cols] = [random.pick([1, 2, 63, 65]), random.pick([1, 3, 4, 18, 64, 300, 1024])];
    const x = random.normals(rows * cols, random.pick([1e-3, 1, 100]));
    const y = random.next() < 0.5 ? random.normals(rows * cols) : x.map((value) => value + 0.2 * random.next());
    if (random.next() < 0.2) x.fill(0, 0, cols);
    const [xAt, yAt, outAt] = [kernels.put(x), kernels.put(y), kernels.put(new Float32Array(rows + 4).fill(7))];
    kernels.exports.rowCosine(outAt, xAt, yAt, rows, cols);
    const out = kernels.f32(outAt, rows + 4);
    expect([...out.subarray(rows)]).toEqual([7, 7, 7, 7]);
    for (let r = 0; r < rows; r++) {
      const dot = (a: Float32Array, b: Float32Array) =>
        a.subarray(r * cols, (r + 1) * cols).reduce((sum, value, c) => sum + value * b[r * cols + c], 0);
      const want = dot(x, y) / (Math.max(Math.sqrt(dot(x, x)), 1e-8) * Math.max(Math.sqrt(dot(y, y)), 1e-8));
      if (!(Math.abs(out[r] - want) <= 1e-6)) throw new Error(`${rows} x ${cols} [${r}]: ${out[r]}, not ${want}`);
    }
  }
});
