import { beforeEach, expect, test } from 'vitest';
import { guarded, row } from '../support/guarded.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

interface Case {
  readonly x: Float32Array;
  readonly weights?: { readonly rows: Float32Array; readonly stride: number; readonly epsilon: number };
  readonly centres?: Float32Array;
  readonly n: number;
  readonly rows: number;
  readonly heads: number;
  readonly d: number;
  readonly factor: number;
}

function weightedGram({ x, weights, centres, n, rows, heads, d, factor }: Case): Float32Array {
  const out = guarded(kernels, rows * d * d * 4);
  const scratch = guarded(kernels, kernels.exports.weightedGramScratchBytes(d));
  const [w, m] = [weights ? kernels.put(weights.rows) : 0, centres ? kernels.put(centres) : 0];
  const at = kernels.put(x);
  kernels.exports.weightedGram(out.address, at, w, weights?.stride ?? 0, m, n, rows, heads, d, weights?.epsilon ?? 0, factor, scratch.address);
  out.check();
  scratch.check();
  return kernels.f32(out.address, rows * d * d).slice();
}

test('weighted-gram: 2e-6 of the diagonal (f32 sums) of float64 over 40 random shapes; symmetric to the last bit', () => {
  const random = new Random(72);
  for (let i = 0; i < 40; i++) {
    kernels.reset();
    const [n, heads, group, d] = [
      random.pick([1, 2, 31, 63, 65, 300]),
      random.int(1, 3),
      random.pick([1, 3]),
      random.pick([2, 4, 6, 12, 18, 32, 80]),
    ];
    const rows = heads * group;
    const x = random.normals(n * heads * d, random.pick([1e-2, 1, 30]));
    const stride = n + random.int(0, 3);
    const weights = random.next() < 0.5 ? { rows: random.normals(rows * stride).map(Math.abs), stride, epsilon: random.pick([0, 0.5]) } : undefined;
    const centres = random.next() < 0.5 ? random.normals(rows * d) : undefined;
    const factor = random.pick([1, 1 / n]);
    const out = weightedGram({ x, weights, centres, n, rows, heads, d, factor });
    for (let r = 0; r < rows; r++) {
      const want = new Float64Array(d * d);
      for (let t = 0; t < n; t++) {
        const value = row(x, (t * heads + Math.floor(r / group)) * d, d, centres?.subarray(r * d, (r + 1) * d));
        const w = factor * (weights ? weights.rows[r * stride + t] + weights.epsilon : 1);
        for (let a = 0; a < d; a++) for (let b = 0; b < d; b++) want[a * d + b] += w * value[a] * value[b];
      }
      for (let a = 0; a < d; a++) {
        for (let b = 0; b < d; b++) {
          const got = out[(r * d + a) * d + b];
          const room = 2e-6 * Math.sqrt(want[a * d + a] * want[b * d + b]);
          if (!(Math.abs(got - want[a * d + b]) <= room))
            throw new Error(`n ${n} ${heads}x${group} d ${d} [${r},${a},${b}]: ${got}, not ${want[a * d + b]}`);
          expect(got).toBe(out[(r * d + b) * d + a]);
        }
      }
    }
  }
});

test('weighted-gram: toy numbers, and a covariance that the mean would drown', () => {
  // (1, 2) and (3, 4), weights 1 and 2: 1 (1 2; 2 4) + 2 (9 12; 12 16)
  const toy = { x: Float32Array.of(1, 2, 3, 4), n: 2, rows: 1, heads: 1, d: 2, factor: 1 };
  expect([...weightedGram({ ...toy, weights: { rows: Float32Array.of(0.5, 1.5), stride: 2, epsilon: 0.5 } })]).toEqual([19, 26, 26, 36]);
  // 1000 + 1 and 1000 - 1: products of a million each, a variance of 1
  expect([...weightedGram({ ...toy, x: Float32Array.of(1001, 1001, 999, 999), centres: Float32Array.of(1000, 1000), factor: 0.5 })]).toEqual([
    1, 1, 1, 1,
  ]);
});
