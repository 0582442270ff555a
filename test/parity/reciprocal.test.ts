import { expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

test('reciprocal: one rounding of float64, for lengths around the vector; in place too; of 0 infinity', () => {
  const random = new Random(73);
  for (const count of [1, 2, 3, 4, 5, 63, 65, 300]) {
    for (const inPlace of [false, true]) {
      kernels.reset();
      const x = random.normals(count, 10);
      x[count - 1] = 0;
      const at = kernels.put(x);
      const out = inPlace ? at : kernels.alloc((count + 4) * 4);
      if (!inPlace) kernels.f32(out, count + 4).fill(777);
      kernels.exports.reciprocal(out, at, count);
      expect([...kernels.f32(out, count)]).toEqual([...x].map((value) => Math.fround(1 / value)));
      if (!inPlace) expect([...kernels.f32(out + count * 4, 4)]).toEqual([777, 777, 777, 777]);
    }
  }
});
