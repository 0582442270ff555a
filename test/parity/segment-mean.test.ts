import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('segment-mean: the mean of float64, to f32, over 300 random shapes; equal within a segment, copied outside; nothing behind is touched', () => {
  const random = new Random(81);
  for (let i = 0; i < 300; i++) {
    kernels.reset();
    const [n, rows, width] = [
      random.pick([1, 2, 3, 19, 20, 63, 65, 300, random.int(1, 200)]),
      random.int(1, 4),
      random.pick([1, 2, 3, 20, 64, 4096]),
    ];
    const first = random.int(0, Math.min(n, 30));
    const end = random.pick([n, first, random.int(first, n)]);
    const x = random.normals(rows * n);
    const [xAt, outAt] = [kernels.put(x), kernels.put(new Float32Array(rows * n + 4).fill(7))];
    kernels.exports.segmentMean(outAt, xAt, rows, n, first, end, width);
    const out = kernels.f32(outAt, rows * n + 4).slice();
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < n; j++) {
        const own = x.subarray(r * n + Math.max(first, j - (j % width)), r * n + Math.min(end, j - (j % width) + width));
        const want = j < first || j >= end ? x[r * n + j] : Math.fround(own.reduce((sum, value) => sum + value, 0) / own.length);
        if (out[r * n + j] !== want) throw new Error(`n ${n} by ${width} in [${first}, ${end}): [${r},${j}] is ${out[r * n + j]}, not ${want}`);
      }
    }
    expect([...out.subarray(rows * n)]).toEqual([7, 7, 7, 7]);
  }
});

test('segment-mean: a value that is not a number makes its segment none, and no other', () => {
  const [xAt, outAt] = [kernels.put(Float32Array.of(1, 3, NaN, 4, 5, 7)), kernels.put(new Float32Array(6))];
  kernels.exports.segmentMean(outAt, xAt, 1, 6, 0, 6, 2);
  expect([...kernels.f32(outAt, 6)]).toEqual([2, 2, NaN, NaN, 6, 6]);
});
