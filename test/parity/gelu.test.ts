import { expect, test } from 'vitest';
import { erfc } from '../support/erfc.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

function run(x: Float32Array): Float32Array {
  kernels.reset();
  const [at, out] = [kernels.put(x), kernels.alloc((x.length + 4) * 4)];
  kernels.f32(out, x.length + 4).fill(777);
  kernels.exports.gelu(out, at, x.length);
  const result = kernels.f32(out, x.length).slice();
  expect([...kernels.f32(out + x.length * 4, 4)]).toEqual([777, 777, 777, 777]);
  kernels.exports.gelu(at, at, x.length);
  expect(kernels.f32(at, x.length), 'in place').toEqual(result);
  return result;
}

test('the float64 erfc that this is held against: known values', () => {
  for (const [x, want] of [
    [0, 1],
    [0.5, 0.4795001221869535],
    [1, 0.15729920705028513],
    [2, 0.004677734981047266],
    [3, 2.2090496998585441e-5],
    [-1, 1.8427007929497148],
  ])
    expect(Math.abs(erfc(x) / want - 1)).toBeLessThan(1e-13);
});

test('gelu: 3e-7 |x| of float64 x Phi(x) (7.5e-8 the formula, the rest rounding, fused or not) for every tail length and over the whole range', () => {
  const random = new Random(1);
  const values = [...random.normals(1000), ...random.normals(1000, 20), ...Array.from({ length: 4001 }, (_, i) => (i - 2000) / 200)];
  for (const count of [1, 2, 3, 4, 5, 7, 8, 63, values.length]) {
    const x = Float32Array.from(values.slice(values.length - count));
    const out = run(x);
    for (let i = 0; i < count; i++) {
      const want = (x[i] * erfc(-x[i] / Math.SQRT2)) / 2;
      if (!(Math.abs(out[i] - want) <= 3e-7 * Math.abs(x[i]))) throw new Error(`gelu(${x[i]}) is ${out[i]}, not ${want}`);
    }
  }
});

test('gelu of infinities, NaN and zeros; large values are themselves, large negative ones 0', () => {
  const out = run(Float32Array.from([Infinity, -Infinity, NaN, 0, -0, 1e30, -1e30, 20, -20]));
  expect(out[0]).toBe(Infinity);
  expect(out[1]).toBe(0);
  expect(out[2]).toBeNaN();
  expect(out[3] + out[4]).toBe(0);
  expect(out[5]).toBe(Math.fround(1e30));
  expect(Math.abs(out[6])).toBe(0);
  expect(out[7]).toBe(20);
  expect(Math.abs(out[8])).toBe(0);
});
