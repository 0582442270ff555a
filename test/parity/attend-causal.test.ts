import { describe, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

interface Case {
  n: number;
  start: number;
  Hq: number;
  H: number;
  d: number;
  scale: number;
  window: number;
}

/** float64, one query at a time: all scores, their softmax, the weighted sum. */
function reference(q: Float32Array, k: Float32Array, v: Float32Array, { n, start, Hq, H, d, scale, window }: Case): Float64Array {
  const out = new Float64Array(n * Hq * d);
  for (let i = 0; i < n; i++)
    for (let a = 0; a < Hq; a++) {
      const h = Math.floor(a / (Hq / H));
      const position = start + i;
      const seen: number[] = [];
      for (let j = 0; j <= position; j++) if (!window || j > position - window) seen.push(j);
      const s = seen.map((j) => {
        let dot = 0;
        for (let c = 0; c < d; c++) dot += q[(i * Hq + a) * d + c] * k[(j * H + h) * d + c];
        return dot * scale;
      });
      const most = s.reduce((x, y) => Math.max(x, y), -Infinity);
      const w = s.map((x) => Math.exp(x - most));
      const total = w.reduce((x, y) => x + y, 0);
      seen.forEach((j, t) => {
        for (let c = 0; c < d; c++) out[(i * Hq + a) * d + c] += (w[t] / total) * v[(j * H + h) * d + c];
      });
    }
  return out;
}

/** Scratch full of NaN: a kernel that reads what it has not written shows. */
function scratch(d: number): number {
  const bytes = kernels.exports.attendScratchBytes(d);
  const address = kernels.alloc(bytes + 64);
  kernels.f32(address, bytes / 4 + 16).fill(NaN);
  return address;
}

function run(q: Float32Array, k: Float32Array, v: Float32Array, { n, start, Hq, H, d, scale, window }: Case): Float32Array {
  kernels.reset();
  const [pq, pk, pv] = [kernels.put(q), kernels.put(k), kernels.put(v)];
  const pad = 16;
  const out = kernels.alloc((n * Hq * d + pad) * 4);
  const work = scratch(d);
  kernels.f32(out, n * Hq * d + pad).fill(12345);
  kernels.exports.attendCausal(out, pq, pk, pv, n, start, Hq, H, d, scale, window, work);
  const after = kernels.f32(work + kernels.exports.attendScratchBytes(d), 16);
  expect(after.every(Number.isNaN), 'writes past the scratch').toBe(true);
  expect(
    kernels
      .f32(out, n * Hq * d + pad)
      .subarray(n * Hq * d)
      .every((x) => x === 12345),
    'writes past out',
  ).toBe(true);
  return kernels.f32(out, n * Hq * d).slice();
}

function data(random: Random, c: Case, size = 1) {
  const rows = c.start + c.n;
  return {
    q: random.normals(c.n * c.Hq * c.d, size),
    k: random.normals(rows * c.H * c.d, size),
    v: random.normals(rows * c.H * c.d),
  };
}

function furthest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const gap = Math.abs(a[i] - b[i]);
    if (!(gap <= most)) most = gap; // NaN counts
  }
  return most;
}

/** |v| is below 6; f32 sums of up to 700 weighted values whose weights carry ~1e-6 from their scores (|s| up to ~6). */
const CLOSE = 1e-5;

function make(random: Random, over: Partial<Case>): Case {
  const d = over.d ?? random.pick([16, 32, 64, 80, 96, 128]);
  const H = over.H ?? random.int(1, 3);
  const G = random.int(1, 8);
  return { n: random.int(1, 130), start: 0, Hq: H * G, H, d, scale: 1 / Math.sqrt(d), window: 0, ...over };
}

describe('attendCausal', () => {
  test('equals float64 attention for every head size, group size and odd lengths', () => {
    const random = new Random(1);
    for (const d of [4, 16, 20, 32, 64, 80, 96, 128, 256])
      for (const start of [0, random.int(1, 200)]) {
        const c = make(random, { d, start, H: 2, Hq: 2 * random.int(1, 8) });
        const { q, k, v } = data(random, c);
        expect(furthest(run(q, k, v, c), reference(q, k, v, c)), JSON.stringify(c)).toBeLessThan(CLOSE);
      }
  });

  test('every group size from 1 to 9, every length around the row and tile blocks', () => {
    const random = new Random(2);
    for (let G = 1; G <= 9; G++)
      for (const n of [1, 2, 7, 8, 9, 63, 64, 65]) {
        const c = make(random, { d: 16, n, H: 1, Hq: G, start: random.pick([0, 1, 63, 64, 65]) });
        const { q, k, v } = data(random, c);
        expect(furthest(run(q, k, v, c), reference(q, k, v, c)), JSON.stringify(c)).toBeLessThan(CLOSE);
      }
  });

  test('sliding windows narrower than a tile, wider than the tile, and wider than the prompt', () => {
    const random = new Random(3);
    for (const window of [1, 2, 5, 63, 64, 65, 100, 1000])
      for (const start of [0, 37, 300]) {
        const c = make(random, { window, start, d: random.pick([16, 64]) });
        const { q, k, v } = data(random, c);
        expect(furthest(run(q, k, v, c), reference(q, k, v, c)), JSON.stringify(c)).toBeLessThan(CLOSE);
      }
  });

  test('a prompt in chunks gives what the prompt in one piece gives', () => {
    const random = new Random(4);
    for (const window of [0, 50]) {
      const c = make(random, { n: 130, H: 2, Hq: 6, d: 32, window });
      const { q, k, v } = data(random, c);
      const whole = run(q, k, v, c);
      const parts: number[] = [];
      for (const [start, n] of [
        [0, 1],
        [1, 70],
        [71, 59],
      ]) {
        const row = c.Hq * c.d;
        parts.push(
          ...run(q.slice(start * row, (start + n) * row), k.slice(0, (start + n) * c.H * c.d), v.slice(0, (start + n) * c.H * c.d), {
            ...c,
            start,
            n,
          }),
        );
      }
      // Same f32 operations per row except where the tiles begin (with a window): only their rounding differs.
      expect(furthest(parts, whole)).toBeLessThan(window ? CLOSE : 1e-7);
    }
  });

  test('logits of +-1e4 neither overflow nor lose the winner', () => {
    const random = new Random(5);
    for (let turn = 0; turn < 10; turn++) {
      const c = make(random, { n: random.int(1, 40), start: random.int(0, 150), scale: 1 });
      const { q, k, v } = data(random, c, Math.sqrt(1e4 / Math.sqrt(c.d)));
      const out = run(q, k, v, c);
      // A logit of 1e4 has an f32 spacing of 1e-3; several roundings move a weight by up to ~1% when two keys are that close.
      expect(furthest(out, reference(q, k, v, c)), JSON.stringify(c)).toBeLessThan(0.05);
    }
    // All keys alike: the mean of v, however large the one logit is.
    for (const size of [1e4, -1e4]) {
      const c = make(random, { n: 70, d: 16, H: 1, Hq: 3, scale: 1 });
      const { v } = data(random, c);
      const q = new Float32Array(c.n * c.Hq * c.d).fill(1);
      const k = new Float32Array(c.n * c.d).fill(size / 16);
      expect(furthest(run(q, k, v, c), reference(q, k, v, c))).toBeLessThan(CLOSE);
    }
  });

  test('a query that sees one key returns its value bit for bit', () => {
    const random = new Random(6);
    const c = make(random, { n: 9, H: 2, Hq: 4, d: 20, window: 1 });
    const { q, k, v } = data(random, c, 30);
    const out = run(q, k, v, c);
    for (let i = 0; i < c.n; i++)
      for (let a = 0; a < c.Hq; a++)
        expect(out.slice((i * c.Hq + a) * c.d, (i * c.Hq + a + 1) * c.d)).toEqual(
          v.slice((i * c.H + (a >> 1)) * c.d, (i * c.H + (a >> 1) + 1) * c.d),
        );
  });
});
