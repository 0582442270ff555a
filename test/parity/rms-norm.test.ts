import { expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

function reference(x: Float32Array, weight: Float32Array, rows: number, cols: number, eps: number): Float64Array {
  const out = new Float64Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    let squares = 0;
    for (let c = 0; c < cols; c++) squares += x[r * cols + c] ** 2;
    for (let c = 0; c < cols; c++) out[r * cols + c] = (x[r * cols + c] / Math.sqrt(squares / cols + eps)) * weight[c];
  }
  return out;
}

/** 1/sqrt and two products are rounded to f32: 3 half-ulps of 6e-8. */
const RELATIVE = 2e-7;

function expectNear(actual: Float32Array, wanted: Float64Array, hint: string): void {
  for (let i = 0; i < wanted.length; i++) {
    if (!(Math.abs(actual[i] - wanted[i]) <= RELATIVE * Math.abs(wanted[i]) + 1e-38)) expect.fail(`${hint} [${i}]: ${actual[i]}, not ${wanted[i]}`);
  }
}

test('rmsNorm equals float64 for short, long and odd rows, in place and not', () => {
  const random = new Random(1);
  for (const cols of [1, 3, 4, 7, 16, 64, 80, 576, 577, 4096])
    for (const rows of [1, 2, 9])
      for (const size of [1e-4, 1, 1e4]) {
        kernels.reset();
        const x = random.normals(rows * cols, size);
        const weight = random.normals(cols);
        const [px, pw, out] = [kernels.put(x), kernels.put(weight), kernels.alloc((rows * cols + 4) * 4)];
        kernels.f32(out, rows * cols + 4).fill(777);
        const wanted = reference(x, weight, rows, cols, Math.fround(1e-5));
        kernels.exports.rmsNorm(out, px, pw, rows, cols, 1e-5);
        expectNear(kernels.f32(out, rows * cols), wanted, `${rows}x${cols} of ${size}`);
        expect([...kernels.f32(out + rows * cols * 4, 4)]).toEqual([777, 777, 777, 777]);
        kernels.exports.rmsNorm(px, px, pw, rows, cols, 1e-5);
        expect(kernels.f32(px, rows * cols)).toEqual(kernels.f32(out, rows * cols));
      }
});

test('rmsNorm keeps small elements beside one large: squares are not summed in f32', () => {
  kernels.reset();
  // 1 + 2^-24 per element rounds back to 1 in f32; in f64 the 65536 of them add up to 1/256.
  const cols = 65537;
  const x = new Float32Array(cols).fill(2 ** -12);
  x[0] = 1;
  const weight = new Float32Array(cols).fill(1);
  const [px, pw] = [kernels.put(x), kernels.put(weight)];
  kernels.exports.rmsNorm(px, px, pw, 1, cols, 0);
  expectNear(kernels.f32(px, cols), reference(x, weight, 1, cols, 0), 'one large');
});

test('rmsNorm of zeros is zero', () => {
  kernels.reset();
  const [px, pw] = [kernels.put(new Float32Array(12)), kernels.put(new Float32Array(12).fill(3))];
  kernels.exports.rmsNorm(px, px, pw, 1, 12, 1e-6);
  expect([...kernels.f32(px, 12)]).toEqual(Array(12).fill(0));
});
