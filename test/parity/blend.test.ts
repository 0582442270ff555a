import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('blend: one rounding a step of float64, for lengths around the vector; in place too', () => {
  const random = new Random(72);
  for (const count of [1, 2, 3, 4, 5, 63, 65, 300]) {
    for (const inPlace of [false, true]) {
      kernels.reset();
      const [x, y] = [random.normals(count), random.normals(count)];
      const [a, b] = [Math.fround(random.next()), Math.fround(random.next() - 1)];
      const [xAt, yAt] = [kernels.put(x), kernels.put(y)];
      const outAt = inPlace ? yAt : kernels.put(new Float32Array(count));
      kernels.exports.blend(outAt, xAt, yAt, a, b, count);
      for (const [i, value] of kernels.f32(outAt, count).entries()) expect(value).toBe(Math.fround(Math.fround(a * x[i]) + Math.fround(b * y[i])));
    }
  }
});
