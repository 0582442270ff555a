import { expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

test('gather: every bit of the rows that each head names, and nothing beside them', () => {
  const random = new Random(71);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const [H, d, n] = [random.int(1, 8), random.pick([4, 32, 64, 80, 128]), random.int(1, 200)];
    const count = random.int(1, n);
    const stride = count + random.int(0, 3);
    const x = random.normals(n * H * d);
    const order = Uint32Array.from({ length: H * stride }, () => random.int(0, n - 1));
    const [xAt, orderAt, outAt] = [kernels.put(x), kernels.put(order), kernels.put(new Float32Array(count * H * d + 4).fill(-7))];
    kernels.exports.gather(outAt, xAt, orderAt, stride, count, H, d);
    const out = kernels.f32(outAt, count * H * d + 4);
    for (let h = 0; h < H; h++)
      for (let j = 0; j < count; j++) {
        const from = (order[h * stride + j] * H + h) * d;
        expect(out.subarray((j * H + h) * d, (j * H + h + 1) * d)).toEqual(x.subarray(from, from + d));
      }
    expect([...out.subarray(count * H * d)]).toEqual([-7, -7, -7, -7]);
  }
});
