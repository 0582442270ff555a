import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

interface Shape {
  readonly n: number;
  readonly rows: number;
  readonly heads: number;
  readonly group: number;
  readonly d: number;
}

/** Float64: the sums of |y|^p, not yet their root. */
function powers({ n, rows, heads, group, d }: Shape, v: Float32Array, w: Float32Array, p: number): Float64Array {
  const Hq = heads * group;
  const sums = new Float64Array(Hq * n);
  for (let a = 0; a < Hq; a++)
    for (let t = 0; t < n; t++)
      for (let r = 0; r < rows; r++) {
        let y = 0;
        for (let c = 0; c < d; c++) y += v[(t * heads + Math.floor(a / group)) * d + c] * w[(r * Hq + a) * d + c];
        sums[a * n + t] += Math.abs(y) ** p;
      }
  return sums;
}

/** With 4 numbers after the result, which must stay as they are. */
function outputNorm({ n, rows, heads, group, d }: Shape, v: Float32Array, w: Float32Array, p: number, before: Float32Array | null): Float32Array {
  const Hq = heads * group;
  const outAt = kernels.put(Float32Array.from([...(before ?? new Float32Array(Hq * n).fill(NaN)), 7, 7, 7, 7]));
  const [vAt, wAt] = [kernels.put(v), kernels.put(w)];
  kernels.exports.outputNorm(outAt, vAt, wAt, n, rows, Hq, heads, d, p, before === null ? 0 : 1);
  expect([...kernels.f32(outAt + Hq * n * 4, 4)]).toEqual([7, 7, 7, 7]);
  return kernels.f32(outAt, Hq * n).slice();
}

/** f32 products cancel in y, but a norm adds many of them up: far inside 1e-5. */
function expectNorms(shape: Shape, got: Float32Array, sums: Float64Array, p: number): void {
  for (const [i, sum] of sums.entries()) {
    const want = sum ** (1 / p);
    if (!(Math.abs(got[i] - want) <= 1e-5 * want)) throw new Error(`${JSON.stringify(shape)} p ${p} [${i}]: ${got[i]}, ${want} expected`);
  }
}

test.each([1, 2])('output-norm: 1e-5 relative to float64 over 100 random shapes, p = %i', (p) => {
  const random = new Random(90 + p);
  for (let i = 0; i < 100; i++) {
    kernels.reset();
    const shape = {
      n: random.pick([1, 2, 3, 4, 5, 63, 65, random.int(1, 40)]),
      rows: random.pick([8, 9, 64, random.int(8, 100)]),
      heads: random.int(1, 3),
      group: random.pick([1, 3]),
      d: random.pick([16, 18, 32, 64]),
    };
    const v = random.normals(shape.n * shape.heads * shape.d);
    const w = random.normals(shape.rows * shape.heads * shape.group * shape.d, 0.05);
    expectNorms(shape, outputNorm(shape, v, w, p, null), powers(shape, v, w, p), p);
  }
});

test.each([1, 2])('output-norm: slabs of rows one after the other give the norm of all rows, p = %i', (p) => {
  const random = new Random(95 + p);
  const shape = { n: 13, rows: 31, heads: 2, group: 3, d: 16 };
  const [v, w] = [random.normals(13 * 2 * 16), random.normals(31 * 6 * 16)];
  let norms: Float32Array | null = null;
  for (const [first, rows] of [
    [0, 1],
    [1, 12],
    [13, 18],
  ])
    norms = outputNorm({ ...shape, rows }, v, w.subarray(first * 96, (first + rows) * 96), p, norms);
  expectNorms(shape, norms as Float32Array, powers(shape, v, w, p), p);
});

test('output-norm: a value of zeros has norm 0, one that is not a number shows', () => {
  const v = new Float32Array(3 * 16).fill(1);
  v.fill(0, 0, 16);
  v[40] = NaN;
  expect([...outputNorm({ n: 3, rows: 5, heads: 1, group: 1, d: 16 }, v, new Float32Array(5 * 16).fill(0.5), 1, null)]).toEqual([0, 40, NaN]);
});
