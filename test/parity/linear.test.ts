import { describe, expect, it } from 'vitest';
import type { WeightType } from '../../worker/backend/backend.ts';
import { pack } from '../../worker/backend/layout/pack.ts';
import { unpack } from '../../worker/backend/layout/records.ts';
import { loadKernels, type TestKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const names: Record<WeightType, string> = { f32: 'F32', f16: 'F16', bf16: 'Bf16', q8: 'Q8', q4: 'Q4' };
const types = Object.keys(names) as WeightType[];
const isQuantized = (type: WeightType): boolean => type === 'q8' || type === 'q4';
const DECODE_MAX = 4; // four-rows-i16.ts: from 5 tokens on the int16 tiles run

interface Case {
  type: WeightType;
  rows: number;
  cols: number;
  n: number;
  bias: boolean;
  accumulate: boolean;
}

interface Data {
  bytes: Uint8Array;
  w: Float32Array; // what bytes stand for
  x: Float32Array;
  bias: Float32Array | null;
  before: Float32Array;
}

function draw(random: Random, c: Case): Data {
  const bytes = pack(c.type, random.normals(c.rows * c.cols, 0.05), c.rows, c.cols);
  return {
    bytes,
    w: unpack(c.type, bytes, c.rows, c.cols),
    x: random.normals(c.n * c.cols),
    bias: c.bias ? random.normals(c.rows) : null,
    before: random.normals(c.n * c.rows),
  };
}

function run(k: TestKernels, c: Case, data: Data): Float32Array {
  k.reset();
  const guard = 16; // values behind out and bytes behind scratch that must survive
  const out = k.put(Float32Array.from([...data.before, ...new Float32Array(guard).fill(7)]));
  const scratchBytes = k.exports[`linear${names[c.type]}Scratch`](c.rows, c.cols, c.n);
  const x = k.put(data.x);
  const bias = data.bias ? k.put(data.bias) : 0;
  const scratch = k.put(new Uint8Array(scratchBytes + 64).fill(0xa5));
  const w = k.put(data.bytes); // last in memory, so a read beyond it may trap
  k.exports[`linear${names[c.type]}`](out, x, w, bias, c.rows, c.cols, c.n, c.accumulate ? 1 : 0, scratch);
  expect([...k.f32(out + c.n * c.rows * 4, guard)]).toEqual(new Array(guard).fill(7));
  expect(k.u8(scratch + scratchBytes, 64).every((byte) => byte === 0xa5)).toBe(true);
  return k.f32(out, c.n * c.rows).slice();
}

/** f64 result and, per output, how far off the kernel may be. */
function reference(k: TestKernels, c: Case, { w, x, bias, before }: Data): { y: Float64Array; bound: Float64Array } {
  const y = new Float64Array(c.n * c.rows);
  const bound = new Float64Array(c.n * c.rows);
  const blocks = isQuantized(c.type) ? blocksOf(k, c, w, x) : null;
  for (let t = 0; t < c.n; t++) {
    for (let r = 0; r < c.rows; r++) {
      let sum = 0;
      let size = 0;
      for (let i = 0; i < c.cols; i++) {
        const product = x[t * c.cols + i] * w[r * c.cols + i];
        sum += product;
        size += Math.abs(product);
      }
      const o = t * c.rows + r;
      const rest = (bias ? bias[r] : 0) + (c.accumulate ? before[o] : 0);
      y[o] = sum + rest;
      // f32 sums in at least four lanes: far below the worst case of cols/4 * 2^-24, which no random case comes near
      bound[o] = 1e-6 * (size + Math.abs(rest)) + 1e-7;
      if (blocks) bound[o] += quantizationBound(blocks, c, r, t);
    }
  }
  return { y, bound };
}

/**
 * What rounding x, and in prefill w, can do at the very worst.
 * decode   x is off by half a step of its block's max|x| / range; q4's even columns are finer, not counted
 * prefill  x is off by half a step of its segment's max|x| / 16383; w by the rounding of value (0.5; q4 another 0.5 for the min) and slope (q8 0.5, q4
 *          15/32) in steps of its segment's largest possible |w| / 2046, which is at most twice the largest |w| there (q4: the far end of a block's range
 *          may be unused; q8: 128/127)
 */
function quantizationBound({ width, xStep, wStep, ofW, ofX }: Blocks, { cols }: Case, row: number, token: number): number {
  const count = Math.ceil(cols / width);
  let bound = 0;
  for (let b = 0; b < count; b++) {
    const [w, x] = [row * count + b, token * count + b];
    // q4 rounds q * xq and the sum of xq alike, so the error is w times the error of x
    bound += (ofW.size[w] * xStep * ofX.top[x] + ofX.size[x] * wStep * ofW.top[w]) * 1.001;
  }
  return bound;
}

/** The largest absolute value, and the sum of them, in each block of each row. */
interface Extent {
  readonly top: Float64Array;
  readonly size: Float64Array;
}

interface Blocks {
  readonly width: number;
  readonly xStep: number;
  readonly wStep: number;
  readonly ofW: Extent;
  readonly ofX: Extent;
}

function blocksOf(k: TestKernels, c: Case, w: Float32Array, x: Float32Array): Blocks {
  const decode = c.n <= DECODE_MAX;
  const width = decode ? 32 : 256;
  const range = !decode ? 16383 : c.type === 'q8' ? 32752 : k.relaxed ? 127 : 2047;
  const wStep = decode ? 0 : (c.type === 'q8' ? 1.0 * 1.01 : 1.47 * 2) / 2046;
  return { width, xStep: 0.5 / range, wStep, ofW: extent(w, c.cols, width), ofX: extent(x, c.cols, width) };
}

function extent(values: Float32Array, cols: number, width: number): Extent {
  const count = Math.ceil(cols / width);
  const blocks = (values.length / cols) * count;
  const [top, size] = [new Float64Array(blocks), new Float64Array(blocks)];
  for (let i = 0; i < values.length; i++) {
    const b = Math.floor(i / cols) * count + Math.floor((i % cols) / width);
    const value = Math.abs(values[i]);
    top[b] = Math.max(top[b], value);
    size[b] += value;
  }
  return { top, size };
}

/** Errors of random roundings add up like a random walk: rms error over rms result. Measured 2.2e-5, 4.7e-4, 2.4e-4, 6.7e-4 and 5.2e-3 at 576 columns. */
function typicalError(k: TestKernels, c: Case): number {
  if (!isQuantized(c.type)) return 1e-6;
  if (c.n > DECODE_MAX) return c.type === 'q8' ? 7e-4 : 1e-3;
  return c.type === 'q8' ? 4e-5 : k.relaxed ? 8e-3 : 4e-4;
}

function check(k: TestKernels, c: Case, data: Data): void {
  const got = run(k, c, data);
  const { y, bound } = reference(k, c, data);
  let error = 0;
  let size = 0;
  for (let o = 0; o < y.length; o++) {
    const off = Math.abs(got[o] - y[o]);
    if (!(off <= bound[o])) expect.fail(`${JSON.stringify(c)}: output ${o} is ${got[o]}, expected ${y[o]} +- ${bound[o]}`);
    error += off * off;
    size += y[o] * y[o];
  }
  if (c.cols >= 576 && c.rows * c.n >= 64) expect(Math.sqrt(error / size), JSON.stringify(c)).toBeLessThan(typicalError(k, c));
}

describe('linear', () => {
  const k = loadKernels();
  const tokens = [1, 2, 3, 4, 5, 8, 17, 64];
  const rows = [1, 3, 4, 7, 64, 193];
  const columns = { whole: [32, 64, 96, 288, 576], odd: [1, 3, 5, 33, 577] };

  it.each(types)('%s: every shape is the f64 product, within rounding', (type) => {
    const random = new Random(types.indexOf(type) + 1);
    for (const cols of isQuantized(type) ? columns.whole : [...columns.whole, ...columns.odd]) {
      for (const row of rows) {
        for (const n of tokens) {
          const c = { type, rows: row, cols, n, bias: random.next() < 0.5, accumulate: random.next() < 0.5 };
          check(k, c, draw(random, c));
        }
      }
    }
  });

  it.each(types)('%s: bias and accumulate in every combination, all matrices of a small model', (type) => {
    const random = new Random(11);
    for (const [row, cols] of [
      [192, 576],
      [576, 1536],
      [1536, 576],
      [512, 192],
      [64, 2080],
    ]) {
      const whole = draw(random, { type, rows: row, cols, n: 6, bias: true, accumulate: true });
      for (const n of [1, 6]) {
        for (const bias of [false, true]) {
          for (const accumulate of [false, true]) {
            const data = { ...whole, x: whole.x.subarray(0, n * cols), bias: bias ? whole.bias : null, before: whole.before.subarray(0, n * row) };
            check(k, { type, rows: row, cols, n, bias, accumulate }, data);
          }
        }
      }
    }
  });

  it.each(types)('%s: zero rows and zero activations give exactly the bias', (type) => {
    const random = new Random(5);
    for (const n of [1, 9]) {
      const c = { type, rows: 6, cols: 64, n, bias: true, accumulate: false };
      const data = draw(random, c);
      const zeroX = run(k, c, { ...data, x: new Float32Array(n * 64) });
      const bytes = pack(type, new Float32Array(6 * 64), 6, 64);
      const zeroW = run(k, c, { ...data, bytes });
      for (let o = 0; o < n * 6; o++) {
        expect(zeroX[o]).toBe(data.bias![o % 6]);
        expect(zeroW[o]).toBe(data.bias![o % 6]);
      }
    }
  });

  it.each(types)('%s: a token gets the same result whatever its neighbours in the batch', (type) => {
    const random = new Random(6);
    const c = { type, rows: 33, cols: 320, n: 9, bias: true, accumulate: false };
    const data = draw(random, c);
    const all = run(k, c, data);
    const fewer = run(k, { ...c, n: 6 }, { ...data, x: data.x.subarray(3 * 320), before: data.before.subarray(0, 6 * 33) });
    // f32, f16, bf16: a last single token sums in eight lanes instead of four
    for (let o = 0; o < fewer.length; o++) expect(Math.abs(fewer[o] - all[3 * 33 + o])).toBeLessThan(isQuantized(type) ? 1e-30 : 1e-5);
  });

  it.each(types)('%s: infinite and NaN activations never become numbers', (type) => {
    const random = new Random(7);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const n of [1, 7]) {
        const c = { type, rows: 4, cols: 64, n, bias: false, accumulate: false };
        const data = draw(random, c);
        data.x[64 * (n - 1) + 40] = bad;
        const y = run(k, c, data);
        for (let o = 0; o < y.length; o++) expect(Number.isFinite(y[o])).toBe(o < (n - 1) * 4);
      }
    }
  });

  it.each(['q8', 'q4'] as const)('%s: decode and prefill of one matrix agree', (type) => {
    const random = new Random(8);
    const c = { type, rows: 96, cols: 576, n: 5, bias: false, accumulate: false };
    const data = draw(random, c);
    const together = run(k, c, data);
    let error = 0;
    let size = 0;
    for (let t = 0; t < 5; t++) {
      const alone = run(k, { ...c, n: 1 }, { ...data, x: data.x.subarray(t * 576, (t + 1) * 576), before: data.before.subarray(0, 96) });
      for (let r = 0; r < 96; r++) {
        error += (alone[r] - together[t * 96 + r]) ** 2;
        size += alone[r] ** 2;
      }
    }
    const prefill = typicalError(k, c);
    expect(Math.sqrt(error / size)).toBeLessThan(k.relaxed ? prefill + typicalError(k, { ...c, n: 1 }) : prefill);
  });

  it.each(['q8', 'q4'] as const)('%s: outliers in x and blocks of very different scale stay within the bound', (type) => {
    const random = new Random(9);
    for (const n of [1, 12]) {
      const c = { type, rows: 10, cols: 544, n, bias: false, accumulate: false };
      const w = random.normals(10 * 544, 0.05);
      for (let i = 0; i < w.length; i++) w[i] *= 4 ** -(Math.floor(i / 32) % 6);
      const bytes = pack(type, w, 10, 544);
      const x = random.normals(n * 544).map((value, i) => (i % 97 === 0 ? value * 1000 : value));
      check(k, c, { ...draw(random, c), bytes, w: unpack(type, bytes, 10, 544), x });
    }
  });

  it('q8 and q4: the extreme codes everywhere do not overflow', () => {
    for (const n of [1, 5]) {
      for (const sign of [1, -1]) {
        const x = new Float32Array(n * 2048).fill(sign * 3);
        const q8 = new Uint8Array((2048 / 32) * 136).fill(0x80); // q = -128
        const q4 = new Uint8Array((2048 / 32) * 80).fill(0xff); // q = 15
        for (let at = 0; at < q8.length; at += 136) new Uint16Array(q8.buffer, at, 4).fill(0x3c00); // scale 1
        for (let at = 0; at < q4.length; at += 80) new Uint16Array(q4.buffer, at, 8).set([0x3c00, 0x3c00, 0x3c00, 0x3c00, 0, 0, 0, 0]); // scale 1, min 0
        for (const [type, bytes, value] of [
          ['q8', q8, -128],
          ['q4', q4, 15],
        ] as const) {
          const c = { type, rows: 4, cols: 2048, n, bias: false, accumulate: false };
          const y = run(k, c, { bytes, w: new Float32Array(0), x, bias: null, before: new Float32Array(n * 4) });
          for (const got of y) expect(Math.abs(got / (sign * 3 * value * 2048) - 1)).toBeLessThan(1e-3);
        }
      }
    }
  });

  it('q4: a long prompt is cut into chunks of tokens without a seam', () => {
    const c = { type: 'q4' as const, rows: 9, cols: 4096, n: 150, bias: true, accumulate: true }; // 64 tokens a chunk at this width
    check(k, c, draw(new Random(10), c));
  });
});
