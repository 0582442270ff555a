import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function maxPool(x: Float32Array, rows: number, cols: number, stride: number, kernelSize: number): Float32Array {
  const [xAt, outAt] = [kernels.put(x), kernels.put(new Float32Array(rows * stride + 16).fill(-7))];
  kernels.exports.maxPool(outAt, xAt, rows, cols, stride, kernelSize);
  return kernels.f32(outAt, rows * stride + 16).slice();
}

test('max-pool: the largest of the neighbourhood, exactly, other columns untouched, over 300 random shapes', () => {
  const random = new Random(21);
  for (let i = 0; i < 300; i++) {
    kernels.reset();
    const rows = random.int(1, 5);
    const cols = random.pick([1, 2, 3, 4, 5, 8, 63, 65, 300]);
    const stride = cols + random.pick([0, 1, 64]);
    const kernelSize = random.pick([1, 3, 5, 7, 63]);
    const x = random.normals(rows * stride).map((value) => value - 10); // an edge that counted zeros would show
    const out = maxPool(x, rows, cols, stride, kernelSize);
    for (let r = 0; r < rows; r++)
      for (let j = 0; j < stride; j++) {
        const near = x.subarray(r * stride + Math.max(0, j - (kernelSize >> 1)), r * stride + Math.min(cols, j + (kernelSize >> 1) + 1));
        const want = j < cols ? Math.max(...near) : -7;
        if (out[r * stride + j] !== want) throw new Error(`cols ${cols} kernel ${kernelSize} [${r},${j}]`);
      }
    expect(out.subarray(rows * stride).every((y) => y === -7)).toBe(true);
  }
});

test('max-pool: toy numbers', () => {
  expect([...maxPool(Float32Array.of(3, 6, 9, 0, 0, -1), 1, 6, 6, 3).subarray(0, 6)]).toEqual([6, 9, 9, 9, 0, 0]);
});
