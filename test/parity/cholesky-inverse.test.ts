import { beforeEach, expect, test } from 'vitest';
import { dot, guarded } from '../support/guarded.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function choleskyInverse(matrices: Float32Array, rows: number, d: number, ridge: number, most = 5): { out: Float32Array; tries: number[] } {
  const [out, tries] = [guarded(kernels, rows * d * d * 4), guarded(kernels, rows * 4)];
  const scratch = guarded(kernels, kernels.exports.choleskyInverseScratchBytes(d));
  kernels.exports.choleskyInverse(out.address, tries.address, kernels.put(matrices), rows, d, ridge, most, scratch.address);
  for (const block of [out, tries, scratch]) block.check();
  return { out: kernels.f32(out.address, rows * d * d).slice(), tries: [...kernels.u32(tries.address, rows)] };
}

test('cholesky-inverse: W (M + ridge I) Wᵀ = I within 1e-5, W lower triangular, over 30 matrices of condition up to 100', () => {
  const random = new Random(74);
  for (let i = 0; i < 30; i++) {
    kernels.reset();
    const [rows, d, ridge] = [random.int(1, 3), random.pick([1, 2, 4, 6, 17, 48, 80]), random.pick([0, 0.01, 1])];
    const matrices = new Float32Array(rows * d * d);
    for (let r = 0; r < rows; r++) {
      const x = random.normals(4 * d * d); // [4 d, d]: all directions are in it
      for (let a = 0; a < d; a++)
        for (let b = 0; b <= a; b++) {
          let sum = a === b ? 0.2 * d : 0;
          for (let t = 0; t < 4 * d; t++) sum += x[t * d + a] * x[t * d + b];
          for (const [p, q] of [
            [a, b],
            [b, a],
          ])
            matrices[(r * d + p) * d + q] = sum;
        }
    }
    const { out, tries } = choleskyInverse(matrices, rows, d, ridge);
    expect(tries).toEqual(Array(rows).fill(1));
    for (let r = 0; r < rows; r++) {
      const line = (list: Float32Array, a: number) => Array.from(list.subarray((r * d + a) * d, (r * d + a + 1) * d));
      const M = Array.from({ length: d }, (_, a) => line(matrices, a).map((value, b) => value + (a === b ? ridge : 0)));
      const W = Array.from({ length: d }, (_, a) => line(out, a));
      for (let a = 0; a < d; a++) {
        const product = M.map((column) => dot(W[a], column)); // M is symmetric
        for (let b = 0; b < d; b++) {
          if (b > a) expect(W[a][b]).toBe(0);
          const identity = dot(product, W[b]);
          if (!(Math.abs(identity - Number(a === b)) <= 1e-5)) throw new Error(`d ${d} ridge ${ridge} [${r},${a},${b}]: ${identity}`);
        }
      }
    }
  }
});

test('cholesky-inverse: toy numbers; ten times the ridge after each failure, zeros after the last one', () => {
  // (4 2; 2 5) = L L^T, L = (2 0; 1 2), W = (1/2 0; -1/4 1/2)
  expect([...choleskyInverse(Float32Array.of(4, 2, 2, 5), 1, 2, 0).out]).toEqual([0.5, 0, -0.25, 0.5]);
  // -0.5 on the diagonal: 0.01 and 0.1 are not enough, 1 is. -200: 100, the fifth, is not. NaN never is
  const matrices = Float32Array.of(-0.5, 0, 0, 1, -200, 0, 0, 1, NaN, 0, 0, 1, 1, 0, 0, 1);
  const { out, tries } = choleskyInverse(matrices, 4, 2, 0.01);
  expect(tries).toEqual([3, 0, 0, 1]);
  expect(out[0]).toBeCloseTo(1 / Math.sqrt(0.5), 6);
  expect([...out.subarray(4, 12)]).toEqual(Array(8).fill(0));
});
