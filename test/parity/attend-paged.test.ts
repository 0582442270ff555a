import { describe, expect, test } from 'vitest';
import { fromHalf } from '../support/half.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
const F32 = 0;
const F16 = 1;
const INT8 = 2;
const TYPES = [F32, F16, INT8];

interface Case {
  type: number;
  n: number;
  /** Entries of each KV head, the queries' own included. */
  lengths: number[];
  G: number;
  d: number;
  E: number;
  scale: number;
  window: number;
  start: number;
}

/** One entry of a list: its position, and its K and V as the pages hold them. */
interface Entry {
  position: number;
  k: Float32Array;
  v: Float32Array;
}

const defaultE = (type: number, d: number) => [16, 32, Math.floor((64 * d) / (d + 4))][type];

function make(random: Random, over: Partial<Case>): Case {
  const d = over.d ?? random.pick([16, 32, 64, 80, 96, 128]);
  const type = over.type ?? random.pick(TYPES);
  const n = over.n ?? random.int(1, 130);
  const lengths = over.lengths ?? Array.from({ length: random.int(1, 3) }, () => n + random.int(0, 150));
  return {
    type,
    n,
    lengths,
    G: random.int(1, 8),
    d,
    E: defaultE(type, d),
    scale: 1 / Math.sqrt(d),
    window: 0,
    start: Math.max(...lengths) - n,
    ...over,
  };
}

/** Random lists: positions ascending gaps as a press leaves them, then the n own entries at start .. start + n - 1. */
function lists(random: Random, c: Case, size = 1): Entry[][] {
  return c.lengths.map((length) => {
    const kept = length - c.n;
    const old = Array.from({ length: c.start }, (_, i) => i);
    for (let i = old.length - 1; i > 0; i--) {
      const j = random.int(0, i);
      [old[i], old[j]] = [old[j], old[i]];
    }
    const positions = old.slice(0, kept);
    for (let i = 0; i < c.n; i++) positions.push(c.start + i);
    return positions.map((position) => ({ position, k: random.normals(c.d, size), v: random.normals(c.d) }));
  });
}

interface Paged {
  out: Float32Array;
  /** Lists with K and V as stored: widened from f16, dequantised for int8. */
  stored: Entry[][];
}

function run(q: Float32Array, entries: Entry[][], c: Case, random: Random): Paged {
  const { exports } = kernels;
  kernels.reset();
  const H = c.lengths.length;
  const Hq = H * c.G;
  const { d, E } = c;
  const scalesAt = (2 * E * d + 3) & ~3;
  const pageBytes = [2 * E * d * 4, 2 * E * d * 2, scalesAt + 2 * E * 4][c.type];
  const tableStride = Math.max(...entries.map((list) => Math.ceil(list.length / E))) + 2;
  const slotStride = E + 3;
  const pages = Array.from({ length: H * tableStride }, (_, i) => i);
  for (let i = pages.length - 1; i > 0; i--) {
    const j = random.int(0, i);
    [pages[i], pages[j]] = [pages[j], pages[i]];
  }
  const pool = kernels.alloc(pages.length * pageBytes);
  kernels.u8(pool, pages.length * pageBytes).fill(0xff); // f32 and scales: NaN
  const table = kernels.put(Uint32Array.from(pages));
  const lengths = kernels.put(Uint32Array.from(c.lengths));
  const slots = new Uint32Array(pages.length * slotStride).fill(0x7fffffff); // a stray read sees the far future
  entries.forEach((list, h) => {
    const rows = new Float32Array(list.length * H * d);
    const [pk, pv] = [kernels.alloc(rows.byteLength), kernels.alloc(rows.byteLength)];
    for (const [address, key] of [
      [pk, 'k'],
      [pv, 'v'],
    ] as const) {
      for (const [e, entry] of list.entries()) rows.set(entry[key], (e * H + h) * d);
      kernels.f32(address, rows.length).set(rows);
    }
    exports.storeEntries(pool, pageBytes, c.type, E, table + h * tableStride * 4, 0, pk, pv, 0, list.length, h, H, d);
    list.forEach((entry, e) => {
      slots[pages[h * tableStride + Math.floor(e / E)] * slotStride + (e % E)] = entry.position;
    });
  });
  const positions = kernels.put(slots);
  const stored = entries.map((list, h) =>
    list.map((entry, e) => {
      const base = pool + pages[h * tableStride + Math.floor(e / E)] * pageBytes;
      const row = (which: number) => {
        const slot = which * E + (e % E);
        if (c.type === F32) return kernels.f32(base + slot * d * 4, d).slice();
        if (c.type === F16) return Float32Array.from(new Uint16Array(kernels.memory.buffer, base + slot * d * 2, d), fromHalf);
        const scale = new DataView(kernels.memory.buffer).getFloat32(base + scalesAt + slot * 4, true);
        return Float32Array.from(new Int8Array(kernels.memory.buffer, base + slot * d, d), (x) => x * scale);
      };
      return { position: entry.position, k: row(0), v: row(1) };
    }),
  );
  const pq = kernels.put(q);
  const out = kernels.alloc((c.n * Hq * d + 16) * 4);
  kernels.f32(out, c.n * Hq * d + 16).fill(12345);
  const scratchBytes = exports.attendScratchBytes(d);
  const scratch = kernels.alloc(scratchBytes + 64);
  kernels.f32(scratch, scratchBytes / 4 + 16).fill(NaN);
  exports.attendPaged(
    out,
    pq,
    pool,
    pageBytes,
    c.type,
    E,
    lengths,
    table,
    tableStride,
    c.window ? positions : 0,
    slotStride,
    c.n,
    c.start,
    Hq,
    H,
    d,
    c.scale,
    c.window,
    scratch,
  );
  expect(kernels.f32(scratch + scratchBytes, 16).every(Number.isNaN), 'writes past the scratch').toBe(true);
  expect(
    kernels
      .f32(out, c.n * Hq * d + 16)
      .subarray(c.n * Hq * d)
      .every((x) => x === 12345),
    'writes past out',
  ).toBe(true);
  return { out: kernels.f32(out, c.n * Hq * d).slice(), stored };
}

/** float64 over the lists as stored. */
function reference(q: Float32Array, entries: Entry[][], c: Case): Float64Array {
  const H = c.lengths.length;
  const Hq = H * c.G;
  const out = new Float64Array(c.n * Hq * c.d);
  for (let i = 0; i < c.n; i++)
    for (let a = 0; a < Hq; a++) {
      const list = entries[Math.floor(a / c.G)];
      const at = (i * Hq + a) * c.d;
      const seen = list.slice(0, list.length - (c.n - 1 - i)).filter((entry) => !c.window || entry.position > c.start + i - c.window);
      const s = seen.map(({ k }) => k.reduce((sum, x, col) => sum + x * q[at + col], 0) * c.scale);
      const most = s.reduce((x, y) => Math.max(x, y), -Infinity);
      const w = s.map((x) => Math.exp(x - most));
      const total = w.reduce((x, y) => x + y, 0);
      seen.forEach(({ v }, t) => {
        for (let col = 0; col < c.d; col++) out[at + col] += (w[t] / total) * v[col];
      });
    }
  return out;
}

function furthest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const gap = Math.abs(a[i] - b[i]);
    if (!(gap <= most)) most = gap; // NaN counts
  }
  return most;
}

const queries = (random: Random, c: Case, size = 1) => random.normals(c.n * c.lengths.length * c.G * c.d, size);

/** |v| is below 6; f32 sums of some hundred weighted values whose weights carry ~1e-6 from their scores (|s| up to ~6). */
const CLOSE = 1e-5;

/** One query over int8 pages: q and weights are 16-bit steps, 2^-16 of the largest each; a score moves by ~3e-5, a value by 2^-16 |v|. */
const CLOSE_INT8 = 1e-4;

const tolerance = (c: Case) => (c.type === INT8 && c.n === 1 ? CLOSE_INT8 : CLOSE);

function check(random: Random, c: Case): void {
  const q = queries(random, c);
  const { out, stored } = run(q, lists(random, c), c, random);
  expect(furthest(out, reference(q, stored, c)), JSON.stringify(c)).toBeLessThan(tolerance(c));
}

describe('attendPaged', () => {
  test('one query: equals float64 attention for every head size, group size and entry type', () => {
    const random = new Random(1);
    for (const type of TYPES)
      for (const d of [4, 16, 20, 32, 64, 80, 96, 128, 256])
        for (const G of [1, 2, 3, 4, 5, 8, 9, 17]) check(random, make(random, { type, d, G, n: 1 }));
  });

  test('one query: every list length around pages and tiles, for page sizes that do not divide the tile', () => {
    const random = new Random(2);
    for (const type of TYPES)
      for (const E of [1, 3, 5, 16, 60, 61, 64, 100])
        for (const length of [1, 2, 3, 15, 16, 17, 59, 60, 61, 63, 64, 65, 127, 128, 129, 201])
          check(random, make(random, { type, E, d: 16, n: 1, G: random.int(1, 4), lengths: [length] }));
  });

  test('several queries: equals float64 attention for every head size, group size and entry type', () => {
    const random = new Random(3);
    for (const type of TYPES)
      for (const d of [4, 16, 20, 32, 64, 80, 96, 128]) for (const n of [2, 3, 9, random.int(10, 130)]) check(random, make(random, { type, d, n }));
    for (let G = 1; G <= 9; G++) check(random, make(random, { d: 16, n: 21, G }));
    for (const E of [1, 3, 61, 100]) check(random, make(random, { d: 16, n: 40, E }));
  });

  test('lists of very different lengths, down to the queries alone', () => {
    const random = new Random(4);
    for (const n of [1, 2, 7, 64]) check(random, make(random, { n, lengths: [n, n + 1, n + 200, n + 16] }));
  });

  test('sliding windows: narrower than a page, wider than n, wider than everything; entries in any order', () => {
    const random = new Random(5);
    for (const type of TYPES)
      for (const n of [1, 2, 40, 70]) for (const window of [1, 3, 10, 75, 150, 1000]) check(random, make(random, { type, n, window, d: 16 }));
  });

  test('a query whose window holds no entry gets zeros', () => {
    const random = new Random(6);
    for (const n of [1, 5]) {
      // Entries claim positions far behind the queries, which stand at 1000.
      const c = make(random, { n, d: 16, window: 10, lengths: [n + 20, n + 70], start: 100 });
      const entries = lists(random, c);
      const { out } = run(queries(random, c), entries, { ...c, start: 1000 }, random);
      expect([...out].every((x) => x === 0)).toBe(true);
    }
  });

  test('an empty list gives zeros', () => {
    const random = new Random(7);
    const c = make(random, { n: 1, d: 16, lengths: [0, 5], start: 4 });
    const entries = [[], lists(random, { ...c, lengths: [5] })[0]];
    const q = queries(random, c);
    const { out, stored } = run(q, entries, c, random);
    expect([...out.slice(0, c.G * 16)].every((x) => x === 0)).toBe(true);
    expect(furthest(out, reference(q, stored, c))).toBeLessThan(tolerance(c));
  });

  test('the order of the entries before the queries does not matter', () => {
    const random = new Random(8);
    for (const n of [1, 6])
      for (const window of [0, 60]) {
        const c = make(random, { n, window, lengths: [n + 180, n + 90] });
        const q = queries(random, c);
        const entries = lists(random, c);
        const shuffled = entries.map((list) => {
          const old = list.slice(0, list.length - n);
          for (let i = old.length - 1; i > 0; i--) {
            const j = random.int(0, i);
            [old[i], old[j]] = [old[j], old[i]];
          }
          return [...old, ...list.slice(list.length - n)];
        });
        const [a, b] = [run(q, entries, c, random), run(q, shuffled, c, random)];
        expect(furthest(a.out, b.out)).toBeLessThan(tolerance(c)); // the order of f32 sums differs, and the tiles int8 weights are rounded in
      }
  });

  test('queries one by one give what they give together', () => {
    const random = new Random(9);
    for (const type of TYPES)
      for (const window of [0, 30]) {
        const c = make(random, { type, n: 12, window, lengths: [100, 60] });
        const q = queries(random, c);
        const entries = lists(random, c);
        const together = run(q, entries, c, random).out;
        const row = c.lengths.length * c.G * c.d;
        for (let i = 0; i < c.n; i++) {
          const cut = entries.map((list) => list.slice(0, list.length - (c.n - 1 - i)));
          const one = { ...c, n: 1, start: c.start + i, lengths: cut.map((list) => list.length) };
          const out = run(q.slice(i * row, (i + 1) * row), cut, one, random).out;
          expect(furthest(out, together.slice(i * row, (i + 1) * row))).toBeLessThan(tolerance(one));
        }
      }
  });

  test('over pages filled in position order it equals attendCausal', () => {
    const random = new Random(10);
    for (const [n, start] of [
      [1, 0],
      [1, 130],
      [50, 0],
      [50, 77],
    ])
      for (const window of [0, 20]) {
        const c = make(random, { type: F32, n, start, window, lengths: [start + n, start + n] });
        const H = 2;
        const Hq = H * c.G;
        const entries = lists(random, c).map((list) => list.map((entry, position) => ({ ...entry, position })));
        const q = queries(random, c);
        const paged = run(q, entries, c, random).out;
        kernels.reset();
        const dense = (key: 'k' | 'v') => {
          const rows = new Float32Array((start + n) * H * c.d);
          for (const [h, list] of entries.entries()) for (const [j, entry] of list.entries()) rows.set(entry[key], (j * H + h) * c.d);
          return kernels.put(rows);
        };
        const [pq, pk, pv, out] = [kernels.put(q), dense('k'), dense('v'), kernels.alloc(q.byteLength)];
        const scratch = kernels.alloc(kernels.exports.attendScratchBytes(c.d));
        kernels.exports.attendCausal(out, pq, pk, pv, n, start, Hq, H, c.d, c.scale, window, scratch);
        // Several queries without a window run the very same operations; one query, or tiles that begin elsewhere, round otherwise.
        expect(furthest(paged, kernels.f32(out, q.length))).toBeLessThanOrEqual(n > 1 && !window ? 0 : CLOSE);
      }
  });

  test('logits of +-1e4 neither overflow nor lose the winner', () => {
    const random = new Random(11);
    for (const type of TYPES)
      for (const n of [1, 1, 1, 20]) {
        const c = make(random, { type, n, scale: 1 });
        const size = Math.sqrt(1e4 / Math.sqrt(c.d));
        const q = queries(random, c, size);
        const { out, stored } = run(q, lists(random, c, size), c, random);
        // A logit of 1e4 has an f32 spacing of 1e-3; several roundings move a weight by up to ~1% when two keys are that close.
        expect(furthest(out, reference(q, stored, c)), JSON.stringify(c)).toBeLessThan(0.05);
      }
  });

  test('f16 pages: near the attention over the f32 they came from; large, tiny and subnormal values count for what they are', () => {
    const random = new Random(13);
    for (const n of [1, 5])
      for (const d of [16, 20, 64, 128]) {
        const c = make(random, { type: F16, n, d, lengths: [300] });
        const q = queries(random, c);
        const entries = lists(random, c);
        const { stored } = run(q, entries, c, random);
        // A half is off by 2^-11 of itself at most, a score by about 2^-11, a value of 4 by 2^-9.
        expect(furthest(reference(q, stored, c), reference(q, entries, c))).toBeLessThan(2e-3);
        for (const size of [1e-7, 1e-5, 1e4]) {
          const [some] = lists(random, { ...c, lengths: [60] });
          const scaled = some.map(({ position, k, v }) => ({ position, k: k.map((x) => x * size), v: v.map((x) => x * size) }));
          const other = { ...c, lengths: [60], start: 60 - n, scale: Math.min(1, 1 / size) };
          const small = queries(random, other);
          const got = run(small, [scaled], other, random);
          const largest = got.stored[0].reduce((most, { v }) => v.reduce((a, x) => Math.max(a, Math.abs(x)), most), 0);
          expect(largest > size).toBe(true);
          expect(furthest(got.out, reference(small, got.stored, other))).toBeLessThan(CLOSE * largest);
        }
      }
  });

  test('f16 pages: a NaN in one row is heard, in the keys and in the values', () => {
    const random = new Random(14);
    for (const n of [1, 5])
      for (const key of ['k', 'v'] as const)
        for (const [e, column] of [
          [0, 0],
          [40, 5],
          [77, 19],
        ]) {
          const c = make(random, { type: F16, n, d: 20, lengths: [90], G: 3 });
          const entries = lists(random, c);
          entries[0][e][key][column] = NaN;
          const { out } = run(queries(random, c), entries, c, random);
          for (let row = 0; row < n * 3; row++)
            expect(out.slice(row * 20, (row + 1) * 20).some(Number.isNaN), JSON.stringify({ n, key, e, row })).toBe(true);
        }
  });

  test('int8 pages: near the attention over the f32 they came from, and 16-bit q and weights add little to that', () => {
    const random = new Random(12);
    for (const d of [16, 64, 128])
      for (const size of [1, 3]) {
        const c = make(random, { type: INT8, n: 1, d, lengths: [300] });
        const q = queries(random, c, size);
        const entries = lists(random, c, size);
        const { out, stored } = run(q, entries, c, random);
        const exact = reference(q, stored, c);
        const ofInt8 = furthest(exact, reference(q, entries, c));
        // Steps of max|x| / 127, about 0.02 size: scores of deviation size^2 move by ~0.01 size^2.
        expect(ofInt8).toBeLessThan(0.03 * size * size);
        // 2^-16 against 2^-8; a factor 10 of slack for the one worst element.
        expect(furthest(out, exact)).toBeLessThan(ofInt8 / 25);
      }
  });
});
