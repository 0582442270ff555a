import { beforeEach, expect, test } from 'vitest';
import { dot, guarded, row } from '../support/guarded.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

interface Case {
  readonly x: Float32Array;
  readonly vectors?: Float32Array;
  readonly matrices?: Float32Array;
  readonly squared: boolean;
  readonly n: number;
  readonly rows: number;
  readonly heads: number;
  readonly d: number;
  readonly c1: number;
  readonly c2: number;
}

/** Rows of 5 numbers more than there are tokens, which must stay as they are. */
function quadraticForm({ x, vectors, matrices, squared, n, rows, heads, d, c1, c2 }: Case): Float32Array[] {
  const stride = n + 5;
  const out = kernels.put(new Float32Array(rows * stride).fill(7));
  const scratch = guarded(kernels, kernels.exports.quadraticFormScratchBytes(d));
  const [a, A] = [vectors ? kernels.put(vectors) : 0, matrices ? kernels.put(matrices) : 0];
  const at = kernels.put(x);
  kernels.exports.quadraticForm(out, stride, at, a, A, Number(squared), n, rows, heads, d, c1, c2, scratch.address);
  scratch.check();
  return Array.from({ length: rows }, (_, r) => {
    expect([...kernels.f32(out + (r * stride + n) * 4, 5)]).toEqual([7, 7, 7, 7, 7]);
    return kernels.f32(out + r * stride * 4, n).slice();
  });
}

test('quadratic-form: 3e-6 of the sum of sizes (f32 sums) of float64 over 50 random shapes, symmetric and triangular', () => {
  const random = new Random(73);
  for (let i = 0; i < 50; i++) {
    kernels.reset();
    const [n, heads, group] = [random.pick([1, 2, 5, 31, 63, 65, 300]), random.int(1, 3), random.pick([1, 3])];
    const d = random.pick([2, 4, 6, 12, 18, 32, 80]);
    const rows = heads * group;
    const squared = random.next() < 0.5;
    const x = random.normals(n * heads * d, random.pick([1e-2, 1, 30]));
    const vectors = random.next() < 0.7 ? random.normals(rows * d) : undefined;
    const matrices = random.next() < 0.8 ? random.normals(rows * d * d) : undefined;
    if (matrices) {
      for (let at = 0; at < rows * d * d; at += d * d)
        for (let a = 0; a < d; a++) for (let b = a + 1; b < d; b++) matrices[at + a * d + b] = squared ? 0 : matrices[at + b * d + a];
    }
    const [c1, c2] = [random.pick([1, 0.125]), random.pick([1, 0.01])];
    const out = quadraticForm({ x, vectors, matrices, squared, n, rows, heads, d, c1, c2 });
    for (let r = 0; r < rows; r++) {
      for (let t = 0; t < n; t++) {
        const value = row(x, (t * heads + Math.floor(r / group)) * d, d);
        const [sizes, of] = [value.map(Math.abs), (list: Float32Array, at: number) => row(list, at, d)];
        let [want, room] = [0, 1e-30];
        if (vectors) {
          want += c1 * dot(of(vectors, r * d), value);
          room += c1 * dot(of(vectors, r * d).map(Math.abs), sizes);
        }
        if (matrices) {
          const product = value.map((_, a) => dot(of(matrices, (r * d + a) * d), value));
          const size = value.map((_, a) => dot(of(matrices, (r * d + a) * d).map(Math.abs), sizes));
          want += c2 * dot(product, squared ? product : value);
          room += c2 * dot(size, squared ? size : sizes);
        }
        if (!(Math.abs(out[r][t] - want) <= 3e-6 * room)) throw new Error(`n ${n} ${heads}x${group} d ${d} [${r},${t}]: ${out[r][t]}, not ${want}`);
      }
    }
  }
});

test('quadratic-form: toy numbers', () => {
  // x = (1, 2): a.x = 3 + 8; x^T (2 1; 1 3) x = 2 + 4 + 12; |(2 0; 1 3) x|^2 = 4 + 49
  const toy = { x: Float32Array.of(1, 2), n: 1, rows: 1, heads: 1, d: 2, c1: 1, c2: 1, squared: false };
  expect([...quadraticForm({ ...toy, vectors: Float32Array.of(3, 4) })[0]]).toEqual([11]);
  expect([...quadraticForm({ ...toy, matrices: Float32Array.of(2, 1, 1, 3) })[0]]).toEqual([18]);
  expect([...quadraticForm({ ...toy, matrices: Float32Array.of(2, 0, 1, 3), squared: true })[0]]).toEqual([53]);
  const both = { vectors: Float32Array.of(3, 4), matrices: Float32Array.of(2, 1, 1, 3), c1: 10, c2: 0.5 };
  expect([...quadraticForm({ ...toy, ...both })[0]]).toEqual([119]);
});
