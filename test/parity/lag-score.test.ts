import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function lagScore(k: Float32Array, v: Float32Array, n: number, first: number, lag: number, heads: number, d: number): Float32Array {
  const scratchBytes = kernels.exports.lagScoreScratchBytes(d, lag);
  const [kAt, vAt] = [kernels.put(k), kernels.put(v)];
  const [outAt, scratch] = [kernels.put(new Float32Array(heads * n + 4).fill(7)), kernels.alloc(scratchBytes + 64)];
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5);
  kernels.exports.lagScore(outAt, kAt, vAt, n, first, lag, heads, d, scratch);
  expect([...kernels.f32(outAt + heads * n * 4, 4)]).toEqual([7, 7, 7, 7]);
  expect(kernels.u8(scratch + scratchBytes, 64).every((x) => x === 0xa5)).toBe(true);
  return kernels.f32(outAt, heads * n).slice();
}

/** sigma of each token of a partition, in f64: std over channels in the ranges of the next partition. */
function sigmas(rows: Float32Array[], next: Float32Array[]): number[] {
  const d = rows[0].length;
  return rows.map((row) => {
    const x = Array.from(row, (value, c) => {
      const channel = next.map((other) => other[c]);
      const [low, high] = [Math.min(...channel), Math.max(...channel)];
      return high === low ? 0 : (value - low) / (high - low);
    });
    const mean = x.reduce((sum, value) => sum + value, 0) / d;
    return Math.sqrt(x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (d - 1));
  });
}

test('lag-score: 1e-6 (1 + the largest sigma) relative to float64 over 150 random shapes, constant channels among them', () => {
  const random = new Random(61);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [first, lag, heads] = [random.int(0, 5), random.pick([2, 3, 5, 8, 33]), random.int(1, 4)];
    const n = first + lag * random.int(0, 5) + random.int(0, lag - 1);
    if (n === 0) continue;
    const d = random.pick([2, 16, 17, 18, 64, 80, 128]);
    const tensors = [0, 1].map(() => {
      const x = random.normals(n * heads * d, random.pick([1e-3, 1, 100]));
      if (random.next() < 0.3) for (let at = 0; at < x.length; at += d) x[at] = 3; // channel 0
      return x;
    });
    const out = lagScore(tensors[0], tensors[1], n, first, lag, heads, d);
    for (let h = 0; h < heads; h++) {
      const want = new Float64Array(n).fill(1);
      const room = new Float64Array(n);
      for (let start = first; start + 2 * lag <= n; start += lag) {
        const spreads = tensors.map((x) => {
          const row = (t: number) => x.subarray((t * heads + h) * d, (t * heads + h + 1) * d);
          const rows = (from: number) => Array.from({ length: lag }, (_, j) => row(from + j));
          return sigmas(rows(start), rows(start + lag));
        });
        const most = spreads.map((list) => Math.max(...list));
        const total = spreads.map((list, y) => list.reduce((sum, s) => sum + Math.exp(s - most[y]), 0));
        for (let j = 0; j < lag; j++) {
          want[start + j] = spreads.reduce((sum, list, y) => sum + Math.exp(list[j] - most[y]) / total[y] / 2, 0);
          room[start + j] = 1e-6 * (1 + Math.max(...most)) * want[start + j] + 1e-37; // below the least normal number exp gives 0
        }
      }
      for (let j = 0; j < n; j++)
        if (!(Math.abs(out[h * n + j] - want[j]) <= room[j]))
          throw new Error(`n ${n} first ${first} lag ${lag} heads ${heads} d ${d} [${h},${j}]: ${out[h * n + j]}, not ${want[j]}`);
    }
  }
});

test('lag-score: toy numbers; a channel without a range counts as 0', () => {
  // Partitions (0, 1), (2, 3). Both channels of k run from 0 to 1 in the second: sigma of (2, 0) is sqrt 2, of (1, 1) 0. Those of v are constant there.
  const k = Float32Array.of(2, 0, 1, 1, 0, 1, 1, 0);
  const v = Float32Array.of(9, 0, 1, 5, 4, 4, 4, 4);
  const out = lagScore(k, v, 4, 0, 2, 1, 2);
  const share = 1 / (1 + Math.exp(-Math.SQRT2));
  for (const [j, want] of [(share + 0.5) / 2, (1 - share + 0.5) / 2, 1, 1].entries()) expect(out[j]).toBeCloseTo(want, 6);
});

test('lag-score: equal tokens of a partition have equal scores (ties stay ties)', () => {
  const random = new Random(62);
  const [token, next] = [random.normals(80), random.normals(9 * 80)];
  const k = Float32Array.from({ length: 18 * 80 }, (_, i) => (i < 9 * 80 ? token[i % 80] : next[i - 9 * 80]));
  expect(new Set(lagScore(k, k, 18, 0, 9, 1, 80).subarray(0, 9)).size).toBe(1);
});
