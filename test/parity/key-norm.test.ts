import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('key-norm: 1e-6 relative to float64 over 200 random shapes, with both signs', () => {
  const random = new Random(41);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const [n, heads, d, sign] = [
      random.pick([1, 2, 3, 4, 5, 66, random.int(1, 200)]),
      random.int(1, 8),
      random.pick([16, 18, 64, 80, 128]),
      random.pick([1, -1]),
    ];
    const k = random.normals(n * heads * d, random.pick([0, 1e-4, 1, 100]));
    const [kAt, outAt] = [kernels.put(k), kernels.put(new Float32Array(heads * n + 4).fill(7))];
    kernels.exports.keyNorm(outAt, kAt, n, heads, d, sign);
    const out = kernels.f32(outAt, heads * n + 4);
    for (let h = 0; h < heads; h++)
      for (let j = 0; j < n; j++) {
        const want = sign * Math.hypot(...k.subarray((j * heads + h) * d, (j * heads + h + 1) * d));
        if (!(Math.abs(out[h * n + j] - want) <= 1e-6 * Math.abs(want))) throw new Error(`n ${n} heads ${heads} d ${d} [${h},${j}]`);
      }
    expect([...out.subarray(heads * n)]).toEqual([7, 7, 7, 7]);
  }
});

test('key-norm: equal keys have equal norms, wherever they lie (ties stay ties)', () => {
  const random = new Random(42);
  const key = random.normals(80);
  const k = Float32Array.from({ length: 7 * 80 }, (_, i) => key[i % 80]);
  const [kAt, outAt] = [kernels.put(k), kernels.alloc(28)];
  kernels.exports.keyNorm(outAt, kAt, 7, 1, 80, -1);
  expect(new Set(kernels.f32(outAt, 7)).size).toBe(1);
});
