import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('row-softmax: 1e-6 relative, and what an f32 difference lets, to float64 over 150 random shapes; columns beyond `cols` stay', () => {
  const random = new Random(76);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [rows, cols] = [random.int(1, 4), random.pick([1, 2, 3, 4, 5, 63, 65, 300])];
    const stride = cols + random.int(0, 5);
    const peak = random.next() < 0.5;
    const x = random.normals(rows * stride, random.pick([0.1, 1, 20])).map((value) => value + random.pick([0, 500]));
    const at = kernels.put(x);
    kernels.exports.rowSoftmax(at, rows, cols, stride, Number(peak));
    const out = kernels.f32(at, rows * stride);
    for (let r = 0; r < rows; r++) {
      const line = x.subarray(r * stride, r * stride + cols);
      const most = Math.max(...line);
      const total = peak ? 1 : line.reduce((sum, value) => sum + Math.exp(value - most), 0);
      for (let j = 0; j < stride; j++) {
        const [got, want] = [out[r * stride + j], Math.exp(x[r * stride + j] - most) / total];
        if (j >= cols) expect(got).toBe(x[r * stride + j]);
        else if (!(Math.abs(got - want) <= (1e-6 + 6e-8 * (most - x[r * stride + j])) * want + 1e-37))
          throw new Error(`cols ${cols} peak ${peak} [${r},${j}]: ${got}, not ${want}`);
      }
    }
  }
});
