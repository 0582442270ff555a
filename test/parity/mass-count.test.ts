import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

const maps = ['identity', 'affine', 'softmax', 'shift', 'exp'] as const;
type MassMap = (typeof maps)[number];

function massCount(rows: readonly Float32Array[], first: number, last: number, threshold: number, map: MassMap): number[] {
  const n = rows[0].length;
  const { topKScratchBytes, topK, massCount } = kernels.exports;
  const scores = kernels.alloc(rows.length * n * 4);
  const order = kernels.alloc(rows.length * n * 4);
  const out = kernels.put(new Uint32Array(rows.length + 1).fill(77));
  const scratch = kernels.alloc(topKScratchBytes(n));
  rows.forEach((row, h) => {
    kernels.f32(scores + h * n * 4, n).set(row);
    topK(order + h * n * 4, scores + h * n * 4, n, n, first, last, scratch);
  });
  massCount(out, scores, order, n, rows.length, first, last, threshold, maps.indexOf(map));
  expect(kernels.u32(out + rows.length * 4, 1)[0]).toBe(77);
  return Array.from(kernels.u32(out, rows.length));
}

/** MBA: the fewest best masses that reach `threshold` of their sum, in f64; the order of equal scores does not matter here. */
function reference(row: Float32Array, first: number, last: number, threshold: number, map: MassMap): number {
  const s = Array.from(row.slice(first, row.length - last)).sort((a, b) => b - a);
  const mean = s.reduce((a, b) => a + b, 0) / s.length;
  const std = Math.sqrt(s.reduce((a, x) => a + (x - mean) * (x - mean), 0) / s.length);
  const masses = s.map(
    (x) =>
      ({
        identity: Math.max(x, 0),
        affine: Math.max((x + 1) / 2, 0),
        softmax: Math.exp((x - s[0]) / std),
        shift: x - s[s.length - 1],
        exp: Math.exp(x - s[0]),
      })[map],
  );
  let sum = 0;
  const cumulated = masses.map((m) => (sum += m));
  if (!(sum > 0 && sum < Number.POSITIVE_INFINITY)) return Math.ceil(threshold * s.length);
  return cumulated.findIndex((c) => c >= threshold * sum) + 1;
}

test('mass-count: equals float64 over 1200 random cases, all maps, thresholds up to 1', () => {
  const random = new Random(71);
  for (let i = 0; i < 1200; i++) {
    kernels.reset();
    const n = random.pick([random.int(1, 8), random.int(9, 400), random.int(400, 3000)]);
    const first = random.pick([0, Math.min(4, n - 1)]);
    const last = random.pick([0, random.int(0, n - first - 1), n - first - 1]);
    const map = random.pick(maps);
    const threshold = random.pick([0.9, 0.5, 0.99, 1, random.next()]);
    const power = random.pick([1, 3, 20]);
    const sign = map === 'identity' ? 1 : random.pick([1, -1]);
    const rows = Array.from({ length: random.int(1, 4) }, () => Float32Array.from({ length: n }, () => sign * random.next() ** power));
    expect(massCount(rows, first, last, threshold, map)).toEqual(rows.map((row) => reference(row, first, last, threshold, map)));
  }
});

test('LMBA: one-hot attention counts 1, uniform attention counts ceil(p n), in every map that keeps the shape', () => {
  const random = new Random(72);
  for (const n of [1, 2, 3, 10, 63, 64, 100, 1000, 4095])
    for (const p of [0.1, 0.5, 0.9, 0.95, 1]) {
      kernels.reset();
      const hot = new Float32Array(n);
      hot[random.int(0, n - 1)] = 0.37;
      expect(massCount([hot], 0, 0, p, 'identity')).toEqual([1]);
      for (const map of maps) expect(massCount([new Float32Array(n).fill(0.25)], 0, 0, p, map)).toEqual([Math.ceil(p * n)]); // 0.25 n: exact sums
      expect(massCount([new Float32Array(n)], 0, 0, p, 'identity')).toEqual([Math.ceil(p * n)]); // no mass: no information
    }
});

test('LMBA: protected tokens do not count, whatever stands at their places', () => {
  const random = new Random(73);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const scores = Float32Array.from({ length: random.int(2, 500) }, () => random.next() ** 8);
    const [first, last] = [random.int(0, 4), random.int(1, 64)];
    const fill = random.pick([0, 2, 1e30, Number.NaN]); // the padding that made LMBA 58 or 59 everywhere, and worse
    const padded = Float32Array.from([...Array(first).fill(fill), ...scores, ...Array(last).fill(fill)]);
    for (const map of maps) expect(massCount([padded], first, last, 0.9, map)).toEqual(massCount([scores], 0, 0, 0.9, map));
  }
});

test('LMBA: scaling the scores changes nothing under identity and softmax', () => {
  const random = new Random(74);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const scores = Float32Array.from({ length: random.int(2, 500) }, () => random.next() ** 6);
    const scaled = scores.map((x) => x * 2 ** -20); // a power of two: exact
    for (const map of ['identity', 'softmax'] as const) expect(massCount([scaled], 0, 0, 0.9, map)).toEqual(massCount([scores], 0, 0, 0.9, map));
  }
});

test('LMBA: negative scorers count by their maps: concentrated scores less than spread ones', () => {
  const random = new Random(75);
  const n = 1000;
  const spread = Float32Array.from({ length: n }, () => -10 - 0.01 * random.next()); // key norms, nearly equal
  const peaked = spread.map((x, j) => (j < 5 ? x + 9 : x));
  const [even, uneven] = massCount([spread, peaked], 0, 0, 0.9, 'softmax');
  expect(uneven).toBeLessThan(even / 2);
  expect(uneven).toBeGreaterThanOrEqual(1);
  expect(even).toBeLessThanOrEqual(Math.ceil(0.9 * n));
  const cosines = Float32Array.from({ length: n }, (_, j) => (j < 10 ? 1 : -1)); // masses 1 and 0
  expect(massCount([cosines], 0, 0, 0.9, 'affine')).toEqual([9]);
  expect(massCount([spread], 0, 0, 0.9, 'identity')).toEqual([900]); // no mass under identity: no information
  expect(massCount([Float32Array.of(-0.25, 1, -1e-9, 1)], 0, 0, 1, 'identity')).toEqual([2]); // below 0 counts as 0
});

test('LMBA: sums that are not finite count as no information, and nothing evictable as 0', () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
    for (const map of maps) expect(massCount([Float32Array.of(1, bad, 3, 4, 5, 6, 7, 8, 9, 10)], 0, 0, 0.9, map)).toEqual([9]);
  expect(massCount([Float32Array.of(1, 2, 3)], 1, 2, 0.9, 'identity')).toEqual([0]);
});

test('LMBA: toy numbers', () => {
  // weights .5 .3 .15 .05 need 3 tokens for 90 %, four equal ones 4
  expect(massCount([Float32Array.of(0.5, 0.3, 0.15, 0.05), Float32Array.of(1, 1, 1, 1)], 0, 0, 0.9, 'identity')).toEqual([3, 4]);
});
