import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

interface Shape {
  window: number;
  n: number;
  queryHeads: number;
  kvHeads: number;
  headDim: number;
  scale: number;
  slidingWindow: number;
}

function windowMoments(q: Float32Array, k: Float32Array, s: Shape): Float32Array[] {
  const size = s.queryHeads * s.n;
  const [qAt, kAt, outAt] = [kernels.put(q), kernels.put(k), kernels.alloc(3 * size * 4 + 64)];
  const guard = kernels.u8(outAt, 3 * size * 4 + 64).fill(0xa5);
  const scratchBytes = kernels.exports.windowMomentsScratchBytes(s.n);
  const scratch = kernels.alloc(scratchBytes + 64);
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5); // what lies there must not matter, what lies behind must stay
  kernels.exports.windowMoments(outAt, qAt, kAt, s.window, s.n, s.queryHeads, s.kvHeads, s.headDim, s.scale, s.slidingWindow, scratch);
  expect([...guard.subarray(-64), ...kernels.u8(scratch + scratchBytes, 64)].every((x) => x === 0xa5)).toBe(true);
  return [0, 1, 2].map((plane) => kernels.f32(outAt + plane * size * 4, size).slice());
}

function reference(q: Float32Array, k: Float32Array, { window, n, queryHeads, kvHeads, headDim, scale, slidingWindow }: Shape): number[][] {
  const out: number[][] = [[], [], []];
  for (let a = 0; a < queryHeads; a++) {
    const h = Math.floor(a / (queryHeads / kvHeads));
    const rows = Array.from({ length: window }, (_, i) => {
      const position = n - window + i;
      const from = slidingWindow > 0 ? Math.max(0, position - slidingWindow + 1) : 0;
      const logits = Array.from({ length: n }, (_, j) => {
        if (j < from || j > position) return Number.NEGATIVE_INFINITY;
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += q[(i * queryHeads + a) * headDim + c] * k[(j * kvHeads + h) * headDim + c];
        return dot * scale;
      });
      const highest = Math.max(...logits);
      const weights = logits.map((x) => Math.exp(x - highest));
      const total = weights.reduce((x, y) => x + y, 0);
      return weights.map((x) => x / total);
    });
    for (let j = 0; j < n; j++) {
      const column = rows.map((row) => row[j]);
      const mean = column.reduce((x, y) => x + y, 0) / window;
      out[0].push(mean);
      out[1].push(window > 1 ? column.reduce((x, y) => x + (y - mean) ** 2, 0) / (window - 1) : 0);
      out[2].push(column.reduce((x, y) => x - y * Math.log(y + 1e-10), 0));
    }
  }
  return out;
}

test('window-moments: means and entropies 1e-5 relative to float64, variances of mean^2 + variance, over 150 random shapes', () => {
  const random = new Random(41);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const kvHeads = random.int(1, 3);
    const headDim = random.pick([4, 18, 32, 64, 128]);
    const window = random.pick([1, 2, 3, 4, 5, 15, 16, 17, 32, 33]);
    const n = window + random.pick([0, 1, 2, 30, 61, 270]);
    const queryHeads = kvHeads * random.pick([1, 3, random.int(1, 8)]);
    const slidingWindow = random.pick([0, 0, 0, 1, 5, 64, random.int(1, 400)]);
    const shape = { window, n, queryHeads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim), slidingWindow };
    const spread = random.pick([0, 0.1, 1, 1.7]);
    const q = random.normals(window * queryHeads * headDim, spread);
    const k = random.normals(n * kvHeads * headDim, spread);
    const [got, want] = [windowMoments(q, k, shape), reference(q, k, shape)];
    const largest = Math.max(...want[0]);
    for (let at = 0; at < queryHeads * n; at++) {
      const mean = want[0][at];
      // the log of a weight near 1 is as uncertain as the weight: 1e-6 of the sum of weights
      const room = [1e-5 * mean, 1e-5 * (mean * mean + want[1][at]), 1e-5 * want[2][at] + 1e-6 * window * mean].map((x) => x + 1e-11 * largest);
      for (let plane = 0; plane < 3; plane++)
        if (!(Math.abs(got[plane][at] - want[plane][at]) <= room[plane]))
          throw new Error(`${JSON.stringify(shape)} spread ${spread} [${plane},${at}]: ${got[plane][at]}, not ${want[plane][at]}`);
    }
  }
});

test('window-moments: toy numbers, a window of two queries over equal logits', () => {
  // rows (1/2, 1/2, 0) and (1/3, 1/3, 1/3): means 5/12, 5/12, 1/6; variances (1/6)^2 / 2, the same, (1/3)^2 / 2
  const shape = { window: 2, n: 3, queryHeads: 1, kvHeads: 1, headDim: 4, scale: 1, slidingWindow: 0 };
  const [means, variances, entropies] = windowMoments(new Float32Array(8), new Float32Array(12), shape);
  for (const [j, x] of [5 / 12, 5 / 12, 1 / 6].entries()) expect(means[j]).toBeCloseTo(x, 6);
  for (const [j, x] of [1 / 72, 1 / 72, 1 / 18].entries()) expect(variances[j]).toBeCloseTo(x, 6);
  for (const [j, x] of [Math.log(2) / 2 + Math.log(3) / 3, Math.log(2) / 2 + Math.log(3) / 3, Math.log(3) / 3].entries())
    expect(entropies[j]).toBeCloseTo(x, 6);
});

test('window-moments: queries that all attend alike have no variance', () => {
  const random = new Random(42);
  const one = random.normals(16);
  const q = Float32Array.from({ length: 40 * 16 }, (_, i) => one[i % 16]);
  const k = random.normals(100 * 16);
  k.fill(0, 60 * 16); // the window's own keys weigh alike, and little
  const hidden = Float32Array.from(k, (x, i) => (i < 60 * 16 ? x : -20 * one[i % 16]));
  const [means, variances] = windowMoments(q, hidden, { window: 40, n: 100, queryHeads: 1, kvHeads: 1, headDim: 16, scale: 1, slidingWindow: 0 });
  for (let j = 0; j < 60; j++) expect(variances[j]).toBeLessThanOrEqual(1e-12 * means[j] ** 2 + 1e-20);
});
