import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

interface Shape {
  m: number;
  n: number;
  start: number; // n or more: not causal
  columns: number;
  stride: number;
  queryHeads: number;
  kvHeads: number;
  headDim: number;
  scale: number;
  slidingWindow: number;
  reduce: 'sum' | 'max';
}

function scoreColumns(q: Float32Array, k: Float32Array, s: Shape, rowScale: Float32Array | null = null, before: Float32Array | null = null) {
  const length = s.queryHeads * s.stride;
  const [qAt, kAt, scaleAt] = [kernels.put(q), kernels.put(k), rowScale ? kernels.put(rowScale) : 0];
  const outAt = kernels.put(before ?? new Float32Array(length).fill(7));
  const scratchBytes = kernels.exports.scoreColumnsScratchBytes(s.n);
  const scratch = kernels.alloc(scratchBytes + 64);
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5); // what lies there must not matter, what lies behind must stay
  const { m, n, start, columns, stride, reduce, queryHeads, kvHeads, headDim, scale, slidingWindow } = s;
  const [isMax, accumulate] = [Number(reduce === 'max'), Number(before !== null)];
  const { exports } = kernels;
  exports.scoreColumns(
    ...[outAt, qAt, kAt, scaleAt, m, n, start, columns, stride, isMax, accumulate, queryHeads, kvHeads, headDim, scale, slidingWindow, scratch],
  );
  expect(kernels.u8(scratch + scratchBytes, 64).every((x) => x === 0xa5)).toBe(true);
  const out = kernels.f32(outAt, length).slice();
  for (
    let a = 0;
    a < s.queryHeads;
    a++ // other columns stay
  )
    for (let j = s.columns; j < s.stride; j++) expect(out[a * s.stride + j]).toBe(before ? before[a * s.stride + j] : 7);
  return out;
}

function reference(q: Float32Array, k: Float32Array, s: Shape, rowScale: Float32Array | null, before: Float32Array | null): Float64Array {
  const { m, n, start, columns, stride, queryHeads, kvHeads, headDim, scale, slidingWindow, reduce } = s;
  const out = before ? Float64Array.from(before) : new Float64Array(queryHeads * stride);
  for (let a = 0; a < queryHeads; a++)
    for (let i = 0; i < m; i++) {
      const from = slidingWindow > 0 ? Math.max(0, start + i - slidingWindow + 1) : 0;
      const h = Math.floor(a / (queryHeads / kvHeads));
      const logits = Array.from({ length: Math.min(n, start + i + 1) - from }, (_, t) => {
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += q[(i * queryHeads + a) * headDim + c] * k[((from + t) * kvHeads + h) * headDim + c];
        return dot * scale;
      });
      const highest = Math.max(...logits);
      const weights = logits.map((x) => Math.exp(x - highest));
      const sum = weights.reduce((x, y) => x + y, 0);
      for (let t = 0; t < weights.length && from + t < columns; t++) {
        const at = a * stride + from + t;
        const given = (weights[t] / sum) * (rowScale ? rowScale[i] : 1);
        out[at] = reduce === 'sum' ? out[at] + given : Math.max(out[at], given);
      }
    }
  return out;
}

/** Room: exp of f32 logits of size x has relative error x * 2^-23, and sums of up to 16 rows are added in f32. */
function expectClose(what: string, got: Float32Array, want: Float64Array, s: Shape): void {
  const largest = want.reduce((most, x) => Math.max(most, x), 0);
  for (let a = 0; a < s.queryHeads; a++)
    for (let j = 0; j < s.columns; j++) {
      const at = a * s.stride + j;
      if (!(Math.abs(got[at] - want[at]) <= 1e-5 * want[at] + 1e-11 * largest)) throw new Error(`${what} [${a},${j}]: ${got[at]}, not ${want[at]}`);
    }
}

const lengths = [1, 2, 63, 65, 300];

test('score-columns: 1e-5 relative to float64, causal and not, sums and maxima, row scales, on top of what is there', () => {
  const random = new Random(21);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const kvHeads = random.int(1, 3);
    const headDim = random.pick([4, 18, 32, 64, 80, 128]);
    const n = random.pick(lengths);
    const causal = random.next() < 0.6;
    const m = causal ? random.int(1, Math.min(n, 100)) : random.pick([1, 2, 15, 16, 17, 40]);
    const start = causal ? random.pick([0, n - m, random.int(0, n - m)]) : random.pick([n - 1, n]);
    const columns = random.pick([n, random.int(1, n)]);
    const stride = columns + random.pick([0, 3, 40]);
    const slidingWindow = causal ? random.pick([0, 0, 1, 7, 64, random.int(1, 400)]) : 0;
    const queryHeads = kvHeads * random.pick([1, 3, random.int(1, 8)]);
    const s: Shape = {
      m,
      n,
      start,
      columns,
      stride,
      queryHeads,
      kvHeads,
      headDim,
      scale: 1 / Math.sqrt(headDim),
      slidingWindow,
      reduce: random.pick(['sum', 'max']),
    };
    const spread = random.pick([0, 0.1, 1, 1.7]);
    const q = random.normals(m * queryHeads * headDim, spread);
    const k = random.normals(n * kvHeads * headDim, spread);
    const rowScale = random.next() < 0.5 ? random.normals(m).map(Math.abs) : null;
    const before = random.next() < 0.4 ? random.normals(queryHeads * stride).map((x) => Math.abs(x) / n) : null;
    const what = `${JSON.stringify(s)} spread ${spread} scaled ${rowScale !== null} accumulate ${before !== null}`;
    expectClose(what, scoreColumns(q, k, s, rowScale, before), reference(q, k, s, rowScale, before), s);
  }
});

test('score-columns: all queries of a prompt give out 1 each; the first key has what every query left it', () => {
  const random = new Random(22);
  for (const n of lengths) {
    kernels.reset();
    const s: Shape = {
      m: n,
      n,
      start: 0,
      columns: n,
      stride: n,
      queryHeads: 3,
      kvHeads: 1,
      headDim: 32,
      scale: 0.2,
      slidingWindow: 0,
      reduce: 'sum',
    };
    const out = scoreColumns(random.normals(n * 96), random.normals(n * 32), s);
    for (let a = 0; a < 3; a++) {
      const row = out.subarray(a * n, (a + 1) * n);
      expect(Math.abs(row.reduce((x, y) => x + y, 0) / n - 1)).toBeLessThan(1e-5);
      expect(row[0]).toBeGreaterThanOrEqual(1 - 1e-6); // the first query sees nothing else
    }
  }
});

test('score-columns: toy numbers', () => {
  // Equal logits. Causal: rows (1), (1/2, 1/2), (1/3, 1/3, 1/3). Not causal: 3 rows of 1/3.
  const s: Shape = { m: 3, n: 3, start: 0, columns: 3, stride: 3, queryHeads: 1, kvHeads: 1, headDim: 4, scale: 1, slidingWindow: 0, reduce: 'sum' };
  const zeros = new Float32Array(12);
  for (const [j, w] of [11 / 6, 5 / 6, 1 / 3].entries()) expect(scoreColumns(zeros, zeros, s)[j]).toBeCloseTo(w, 6);
  for (const [j, w] of [1, 1 / 2, 1 / 3].entries()) expect(scoreColumns(zeros, zeros, { ...s, reduce: 'max' })[j]).toBeCloseTo(w, 6);
  for (const w of scoreColumns(zeros, zeros, { ...s, start: 3 })) expect(w).toBeCloseTo(1, 6);
  // Row scales 1, 4, 9: maxima 3 (of 1, 4/2, 9/3), 3 (of 2, 3), 3
  for (const w of scoreColumns(zeros, zeros, { ...s, reduce: 'max' }, Float32Array.of(1, 4, 9))) expect(w).toBeCloseTo(3, 6);
});

test('score-columns: a key that is not a number spoils its own head only', () => {
  const s: Shape = {
    m: 20,
    n: 20,
    start: 0,
    columns: 20,
    stride: 20,
    queryHeads: 4,
    kvHeads: 2,
    headDim: 16,
    scale: 0.25,
    slidingWindow: 0,
    reduce: 'max',
  };
  const random = new Random(23);
  const k = random.normals(20 * 2 * 16);
  k[3 * 32 + 5] = Number.NaN; // head 0
  const out = scoreColumns(random.normals(20 * 4 * 16), k, s);
  expect(out.subarray(0, 40).some(Number.isNaN)).toBe(true);
  expect(out.subarray(40).every(Number.isFinite)).toBe(true);
});
