import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function cosineToMean(k: Float32Array, n: number, heads: number, d: number, sign: number): Float32Array {
  const scratchBytes = kernels.exports.cosineToMeanScratchBytes(d);
  const [kAt, outAt, scratch] = [kernels.put(k), kernels.put(new Float32Array(heads * n + 4).fill(7)), kernels.alloc(scratchBytes + 64)];
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5);
  kernels.exports.cosineToMean(outAt, kAt, n, heads, d, sign, scratch);
  expect([...kernels.f32(outAt + heads * n * 4, 4)]).toEqual([7, 7, 7, 7]);
  expect(kernels.u8(scratch + scratchBytes, 64).every((x) => x === 0xa5)).toBe(true);
  return kernels.f32(outAt, heads * n).slice();
}

/** sign * cosine(k[j], mean over t of k[t] / |k[t]|) of each head, in f64. */
function reference(k: Float32Array, n: number, heads: number, d: number, sign: number): number[] {
  return Array.from({ length: heads }, (_, h) => {
    const keys = Array.from({ length: n }, (_, j) => k.subarray((j * heads + h) * d, (j * heads + h + 1) * d));
    const mean = new Float64Array(d);
    const norms = keys.map((key) => Math.hypot(...key));
    for (const [j, key] of keys.entries()) for (let c = 0; c < d; c++) mean[c] += key[c] / Math.max(norms[j], 1e-12) / n;
    const length = Math.max(Math.hypot(...mean), 1e-8);
    return keys.map((key, j) => (sign * key.reduce((s, x, c) => s + x * mean[c], 0)) / (Math.max(norms[j], 1e-8) * length));
  }).flat();
}

test('cosine-to-mean: 2e-6 of the range of float64 over 150 random shapes, zero keys among them', () => {
  const random = new Random(51);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [n, heads, d, sign] = [
      random.pick([2, 3, 5, 66, random.int(2, 200)]),
      random.int(1, 4),
      random.pick([16, 17, 18, 64, 80, 128]),
      random.pick([1, -1]),
    ];
    const k = random.normals(n * heads * d, random.pick([1e-3, 1, 100]));
    const offset = random.pick([0, 1]); // with 1, keys share a direction, as real ones do
    for (let c = 0; c < k.length; c += 3) k[c] += offset;
    if (random.next() < 0.3) k.fill(0, 0, heads * d); // token 0: cosine 0
    const out = cosineToMean(k, n, heads, d, sign);
    reference(k, n, heads, d, sign).forEach((want, at) => {
      if (!(Math.abs(out[at] - want) < 2e-6)) throw new Error(`n ${n} heads ${heads} d ${d} at ${at}: ${out[at]}, not ${want}`);
    });
  }
});

test('cosine-to-mean: toy numbers', () => {
  // unit keys (1,0), (0,1), (1,0): mean (2/3, 1/3), cosines 2/sqrt 5, 1/sqrt 5; the length of a key does not matter
  const k = new Float32Array(12);
  [k[0], k[5], k[8]] = [3, 0.5, 1];
  const out = cosineToMean(k, 3, 1, 4, -1);
  for (const [j, x] of [-2, -1, -2].entries()) expect(out[j]).toBeCloseTo(x / Math.sqrt(5), 6);
});
