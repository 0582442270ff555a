import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function avgPool(x: Float32Array, rows: number, cols: number, stride: number, kernelSize: number): Float32Array {
  const [xAt, outAt] = [kernels.put(x), kernels.put(new Float32Array(rows * stride + 16).fill(-7))];
  kernels.exports.avgPool(outAt, xAt, rows, cols, stride, kernelSize);
  return kernels.f32(outAt, rows * stride + 16).slice();
}

test('avg-pool: 1e-6 relative to float64, other columns untouched, over 300 random shapes', () => {
  const random = new Random(21);
  for (let i = 0; i < 300; i++) {
    kernels.reset();
    const rows = random.int(1, 5);
    const cols = random.pick([1, 2, 3, 4, 5, 8, 63, random.int(1, 300)]);
    const stride = cols + random.pick([0, 1, 64]);
    const kernelSize = random.pick([1, 3, 5, 7, 63]);
    const x = Float32Array.from({ length: rows * stride }, () => random.next());
    const out = avgPool(x, rows, cols, stride, kernelSize);
    for (let r = 0; r < rows; r++)
      for (let j = 0; j < stride; j++) {
        let want = 0;
        for (let t = Math.max(0, j - (kernelSize >> 1)); t <= Math.min(cols - 1, j + (kernelSize >> 1)); t++) want += x[r * stride + t];
        want /= kernelSize;
        if (j >= cols) want = -7;
        if (Math.abs(out[r * stride + j] - want) > 1e-6 * Math.abs(want)) throw new Error(`cols ${cols} kernel ${kernelSize} [${r},${j}]`);
      }
    expect(out.subarray(rows * stride).every((y) => y === -7)).toBe(true);
  }
});

test('avg-pool: toy numbers, zeros counted at the edges', () => {
  expect([...avgPool(Float32Array.of(3, 6, 9, 0, 0, 12), 1, 6, 6, 3).subarray(0, 6)]).toEqual([3, 6, 5, 3, 4, 4]);
  expect([...avgPool(Float32Array.of(5, 10), 1, 2, 2, 5).subarray(0, 2)]).toEqual([3, 3]);
});

test('avg-pool: equal windows give equal results, wherever they lie (ties stay ties)', () => {
  const random = new Random(22);
  const pattern = Float32Array.from({ length: 9 }, () => random.next());
  const x = Float32Array.from({ length: 90 }, (_, j) => pattern[j % 9]);
  const out = avgPool(x, 1, 90, 90, 5);
  for (let j = 11; j < 88; j++) expect(out[j]).toBe(out[j - 9]);
});
