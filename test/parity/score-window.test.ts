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

function scoreWindow(q: Float32Array, k: Float32Array, s: Shape): Float32Array {
  const [qAt, kAt, outAt] = [kernels.put(q), kernels.put(k), kernels.alloc(s.queryHeads * s.n * 4 + 64)];
  const guard = kernels.u8(outAt, s.queryHeads * s.n * 4 + 64).fill(0xa5);
  const scratchBytes = kernels.exports.scoreWindowScratchBytes(s.window, s.n, s.queryHeads, s.kvHeads, s.headDim);
  const scratch = kernels.alloc(scratchBytes + 64);
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5); // what lies there must not matter, what lies behind must stay
  kernels.exports.scoreWindow(outAt, qAt, kAt, s.window, s.n, s.queryHeads, s.kvHeads, s.headDim, s.scale, s.slidingWindow, scratch);
  expect([...guard.subarray(-64), ...kernels.u8(scratch + scratchBytes, 64)].every((x) => x === 0xa5)).toBe(true);
  return kernels.f32(outAt, s.queryHeads * s.n).slice();
}

function reference(q: Float32Array, k: Float32Array, { window, n, queryHeads, kvHeads, headDim, scale, slidingWindow }: Shape): Float64Array {
  const out = new Float64Array(queryHeads * n);
  for (let a = 0; a < queryHeads; a++)
    for (let i = 0; i < window; i++) {
      const position = n - window + i;
      const from = slidingWindow > 0 ? Math.max(0, position - slidingWindow + 1) : 0;
      const h = Math.floor(a / (queryHeads / kvHeads));
      const logits = Array.from({ length: position + 1 - from }, (_, t) => {
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += q[(i * queryHeads + a) * headDim + c] * k[((from + t) * kvHeads + h) * headDim + c];
        return dot * scale;
      });
      const highest = Math.max(...logits);
      const weights = logits.map((x) => Math.exp(x - highest));
      const sum = weights.reduce((x, y) => x + y, 0);
      weights.forEach((w, t) => {
        out[a * n + from + t] += w / sum / window;
      });
    }
  return out;
}

function randomShape(random: Random): Shape {
  const kvHeads = random.int(1, 3);
  const headDim = random.pick([16, 32, 64, 80, 96, 128, 18]);
  const window = random.pick([1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 64]);
  const n = window + random.pick([0, 1, 2, 3, 7, 60, 61, 127, random.int(1, 300)]);
  return {
    window,
    n,
    kvHeads,
    queryHeads: kvHeads * random.int(1, 8),
    headDim,
    scale: 1 / Math.sqrt(headDim),
    slidingWindow: random.pick([0, 0, 0, 1, 2, 5, 64, random.int(1, 400)]),
  };
}

/** |error| relative to the value, above 1e-6 of the largest: exp of f32 logits of size x has relative error x * 2^-23. */
function worstError(got: Float32Array, want: Float64Array): number {
  const largest = want.reduce((a, b) => Math.max(a, b), 0);
  return got.reduce((worst, x, i) => Math.max(worst, Math.abs(x - want[i]) / (want[i] + 1e-6 * largest)), 0);
}

test('score-window: 1e-5 relative to float64 over 150 random shapes, every column written', () => {
  const random = new Random(11);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const shape = randomShape(random);
    const spread = random.pick([0, 0.1, 1, 1.7]); // 0: all logits equal; 1.7: peaked
    const q = random.normals(shape.window * shape.queryHeads * shape.headDim, spread);
    const k = random.normals(shape.n * shape.kvHeads * shape.headDim, spread);
    const error = worstError(scoreWindow(q, k, shape), reference(q, k, shape));
    if (!(error < 1e-5)) throw new Error(`${JSON.stringify(shape)} spread ${spread}: error ${error}`);
  }
});

test('score-window: rows sum to 1 over all n columns, what a sliding window hides is exactly 0', () => {
  const random = new Random(12);
  for (let i = 0; i < 100; i++) {
    kernels.reset();
    const s = randomShape(random);
    const out = scoreWindow(random.normals(s.window * s.queryHeads * s.headDim), random.normals(s.n * s.kvHeads * s.headDim), s);
    for (let a = 0; a < s.queryHeads; a++) expect(Math.abs(out.subarray(a * s.n, (a + 1) * s.n).reduce((x, y) => x + y, 0) - 1)).toBeLessThan(2e-5);
    const hidden = s.slidingWindow > 0 ? Math.max(0, s.n - s.window - s.slidingWindow + 1) : 0;
    for (let a = 0; a < s.queryHeads; a++) expect(out.subarray(a * s.n, a * s.n + hidden).every((x) => x === 0)).toBe(true);
  }
});

test('score-window: logits of hundreds do not overflow, one key can take everything', () => {
  const shape = { window: 5, n: 40, queryHeads: 2, kvHeads: 1, headDim: 16, scale: 1, slidingWindow: 0 };
  const q = new Float32Array(5 * 2 * 16).fill(10);
  const k = new Float32Array(40 * 16).fill(-10); // logits -1600
  k.fill(10, 7 * 16, 8 * 16); // but for key 7: 1600
  const out = scoreWindow(q, k, shape);
  expect([...out].map((x, i) => (i % 40 === 7 ? x - 1 : x)).every((x) => Math.abs(x) < 1e-6)).toBe(true);
});

test('score-window: toy numbers', () => {
  // One query, keys with q.k = ln 1, ln 2, ln 5: weights 1/8, 2/8, 5/8
  const k = Float32Array.from([0, Math.log(2), Math.log(5)].flatMap((x) => [x, 0, 0, 0]));
  const out = scoreWindow(Float32Array.of(1, 0, 0, 0), k, { window: 1, n: 3, queryHeads: 1, kvHeads: 1, headDim: 4, scale: 1, slidingWindow: 0 });
  for (const [j, w] of [0.125, 0.25, 0.625].entries()) expect(out[j]).toBeCloseTo(w, 6);
  // Equal logits, causal inside a window of 2: rows (1/2, 1/2, 0) and (1/3, 1/3, 1/3)
  const flat = { window: 2, n: 3, queryHeads: 1, kvHeads: 1, headDim: 4, scale: 1, slidingWindow: 0 };
  const means = scoreWindow(new Float32Array(8), new Float32Array(12), flat);
  for (const [j, w] of [5 / 12, 5 / 12, 1 / 6].entries()) expect(means[j]).toBeCloseTo(w, 6);
});

test('score-window: a key that is not a number spoils its own head only', () => {
  const shape = { window: 4, n: 20, queryHeads: 4, kvHeads: 2, headDim: 16, scale: 0.25, slidingWindow: 0 };
  const random = new Random(13);
  const k = random.normals(20 * 2 * 16);
  k[3 * 32 + 5] = Number.NaN; // head 0
  const out = scoreWindow(random.normals(4 * 4 * 16), k, shape);
  expect(out.subarray(0, 40).some(Number.isNaN)).toBe(true);
  expect(out.subarray(40).every(Number.isFinite)).toBe(true);
});
