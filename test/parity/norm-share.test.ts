import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

const KINDS: readonly ((key: number, value: number) => number)[] = [(k) => k, (_, v) => v, (k, v) => (k + v) / 2, (k, v) => k * v];

/** With 4 numbers after the result, which must stay as they are. */
function normShare(k: Float32Array, v: Float32Array, n: number, heads: number, d: number, segment: number, kind: number): Float32Array {
  const [kAt, vAt, outAt] = [kernels.put(k), kernels.put(v), kernels.put(new Float32Array(heads * n + 4).fill(7))];
  const bytes = kernels.exports.normShareScratchBytes(n);
  const scratch = kernels.put(new Float32Array(bytes / 4 + 4).fill(5));
  kernels.exports.normShare(outAt, kAt, vAt, n, heads, d, segment, kind, scratch);
  expect([...kernels.f32(scratch + bytes, 4)]).toEqual([5, 5, 5, 5]);
  return kernels.f32(outAt, heads * n + 4).slice();
}

test('norm-share: 2e-6 relative to float64 (f32 squares) over 300 random shapes, segments of zeros among them; shares sum to 1', () => {
  const random = new Random(61);
  for (let i = 0; i < 300; i++) {
    kernels.reset();
    const [n, heads, d] = [random.pick([1, 2, 3, 4, 5, 16, 17, 66, random.int(1, 200)]), random.int(1, 8), random.pick([16, 18, 64, 80, 128])];
    const [segment, kind] = [random.pick([0, 1, 2, 7, 16, n, 4096]), random.int(0, 3)];
    const [k, v] = [random.normals(n * heads * d, random.pick([1e-3, 1, 100])), random.normals(n * heads * d, random.pick([1e-3, 1, 100]))];
    if (random.int(0, 2) === 0) k.fill(0, 0, Math.min(n, 20) * heads * d);
    if (random.int(0, 4) === 0) v.fill(0);
    const out = normShare(k, v, n, heads, d, segment, kind);
    for (let h = 0; h < heads; h++) {
      const squares = (x: Float32Array) => (t: number) => {
        const part = x.subarray((t * heads + h) * d, (t * heads + h + 1) * d);
        return part.reduce((sum, value) => sum + value * value, 0);
      };
      const shares = (x: Float32Array) => {
        const square = Array.from({ length: n }, (_, t) => squares(x)(t));
        if (segment === 0) return square;
        const sums = square.map((_, t) => square.slice(t - (t % segment), t - (t % segment) + segment).reduce((a, b) => a + b));
        return square.map((value, t) => (sums[t] === 0 ? 0 : value / sums[t]));
      };
      const [kk, vv] = [shares(k), shares(v)];
      const z = kk.map((key, t) => KINDS[kind](key, vv[t]));
      const total = z.reduce((a, b) => a + b);
      for (let t = 0; t < n; t++) {
        const want = total === 0 ? 0 : z[t] / total;
        if (!(Math.abs(out[h * n + t] - want) <= 2e-6 * want))
          throw new Error(`n ${n} heads ${heads} d ${d} by ${segment}, kind ${kind} [${h},${t}]`);
      }
      const sum = out.subarray(h * n, (h + 1) * n).reduce((a, b) => a + b, 0);
      expect(sum).toBeCloseTo(total === 0 ? 0 : 1, 5);
    }
    expect([...out.subarray(heads * n)]).toEqual([7, 7, 7, 7]);
  }
});

test('norm-share: equal segments give equal shares, wherever they lie (ties stay ties)', () => {
  const random = new Random(62);
  const [k, v] = [0, 1].map(() => {
    const segment = random.normals(5 * 80);
    return Float32Array.from({ length: 35 * 80 }, (_, i) => segment[i % (5 * 80)]);
  });
  const out = normShare(k, v, 35, 1, 80, 5, 3);
  for (let t = 5; t < 35; t++) expect(out[t]).toBe(out[t - 5]);
});

test('norm-share: a key that is not a number shows, and is not taken for nothing', () => {
  const [k, v] = [new Float32Array(4 * 16).fill(1), new Float32Array(4 * 16).fill(1)];
  k[0] = NaN;
  expect([...normShare(k, v, 4, 1, 16, 2, 3).subarray(0, 4)]).toEqual([NaN, NaN, NaN, NaN]);
});
