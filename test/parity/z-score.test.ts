import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function zScore(x: Float32Array, rows: number, stride: number, first: number, cols: number, whole: boolean): Float32Array {
  const at = kernels.put(x);
  kernels.exports.zScore(at, rows, stride, first, cols, Number(whole));
  return kernels.f32(at, x.length).slice();
}

test('z-score: an f32 rounding of float64, rows and all of them, on a range of columns, over 200 random shapes', () => {
  const random = new Random(81);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const [rows, cols, first] = [random.int(1, 5), random.pick([1, 2, 3, 63, 65, 300]), random.pick([0, 1, 8])];
    const stride = first + cols + random.pick([0, 4]);
    const whole = random.next() < 0.5;
    const x = random.normals(rows * stride, random.pick([1e-3, 1, 100])).map((value) => value + 3);
    const out = zScore(x, rows, stride, first, cols, whole);
    for (let r = 0; r < rows; r++) {
      const values = (row: number) => [...x.subarray(row * stride + first, row * stride + first + cols)];
      const all = whole ? Array.from({ length: rows }, (_, row) => values(row)).flat() : values(r);
      const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
      const squares = all.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const std = all.length > 1 ? Math.sqrt(squares / (all.length - 1)) : 0;
      for (let j = 0; j < stride; j++) {
        const value = x[r * stride + j];
        const want = j < first || j >= first + cols ? value : (value - mean) / Math.max(std, 1e-6);
        if (!(Math.abs(out[r * stride + j] - want) <= 1e-7 * Math.abs(want) + 1e-9))
          throw new Error(`${rows} x ${cols} [${r},${j}]: ${out[r * stride + j]}, not ${want}`);
      }
    }
  }
});

test('z-score: toy numbers; equal values are 0, and so is one alone', () => {
  expect([...zScore(Float32Array.of(1, 2, 3), 1, 3, 0, 3, false)]).toEqual([-1, 0, 1]);
  expect([...zScore(Float32Array.of(5, 5, 5, 5), 2, 2, 0, 2, true)]).toEqual([0, 0, 0, 0]);
  expect([...zScore(Float32Array.of(5), 1, 1, 0, 1, false)]).toEqual([0]);
});
