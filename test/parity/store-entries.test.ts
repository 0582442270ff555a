import { expect, test } from 'vitest';
import { awkwardFloats, fromHalf, toHalf } from '../support/half.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
const F32 = 0;
const F16 = 1;
const INT8 = 2;

interface Layout {
  type: number;
  E: number;
  d: number;
  pageBytes: number;
  scales: number;
}

function layout(type: number, d: number, E = [16, 32, Math.floor((64 * d) / (d + 4))][type]): Layout {
  const scales = (2 * E * d + 3) & ~3;
  return { type, E, d, scales, pageBytes: [2 * E * d * 4, 2 * E * d * 2, scales + 2 * E * 4][type] };
}

/** Stores and returns a reader of the pool: [list entry][0 = K, 1 = V] as bytes, values and scale. */
function run(
  l: Layout,
  pages: number[],
  from: number,
  k: Float32Array,
  v: Float32Array,
  order: number[] | null,
  count: number,
  head: number,
  H: number,
) {
  kernels.reset();
  const pool = kernels.alloc((Math.max(...pages) + 1) * l.pageBytes + 64);
  const poolBytes = (Math.max(...pages) + 1) * l.pageBytes + 64;
  kernels.u8(pool, poolBytes).fill(0xa5);
  const table = kernels.put(Uint32Array.from(pages));
  const [pk, pv] = [kernels.put(k), kernels.put(v)];
  const po = order ? kernels.put(Uint32Array.from(order)) : 0;
  kernels.exports.storeEntries(pool, l.pageBytes, l.type, l.E, table, from, pk, pv, po, count, head, H, l.d);
  const bytes = kernels.u8(pool, poolBytes).slice();
  const view = new DataView(bytes.buffer);
  const touched = new Uint8Array(poolBytes);
  const row = (e: number, which: number) => {
    const base = pages[Math.floor(e / l.E)] * l.pageBytes;
    const slot = which * l.E + (e % l.E);
    const width = l.d * [4, 2, 1][l.type];
    touched.fill(1, base + slot * width, base + (slot + 1) * width);
    if (l.type === F32) return { values: Array.from({ length: l.d }, (_, c) => view.getFloat32(base + slot * width + c * 4, true)), scale: 1 };
    if (l.type === F16) return { values: Array.from({ length: l.d }, (_, c) => view.getUint16(base + slot * width + c * 2, true)), scale: 1 };
    const scaleAt = base + l.scales + slot * 4;
    touched.fill(1, scaleAt, scaleAt + 4);
    return { values: Array.from({ length: l.d }, (_, c) => view.getInt8(base + slot * width + c)), scale: view.getFloat32(scaleAt, true) };
  };
  const untouched = () => bytes.every((byte, i) => touched[i] === 1 || byte === 0xa5);
  return { row, untouched };
}

test('f32 entries are bit-equal rows, in list order, over scattered pages; nothing else is written', () => {
  const random = new Random(1);
  for (const d of [4, 16, 20, 64, 80, 128])
    for (const from of [0, 5, 16, 31]) {
      const [H, n, count] = [3, 50, 37];
      const head = random.int(0, H - 1);
      const [k, v] = [random.normals(n * H * d), random.normals(n * H * d)];
      const order = random.next() < 0.5 ? null : Array.from({ length: count }, () => random.int(0, n - 1));
      const { row, untouched } = run(layout(F32, d), [4, 0, 7, 2, 9], from, k, v, order, count, head, H);
      for (let i = 0; i < count; i++) {
        const at = ((order ? order[i] : i) * H + head) * d;
        expect(row(from + i, 0).values).toEqual([...k.slice(at, at + d)]);
        expect(row(from + i, 1).values).toEqual([...v.slice(at, at + d)]);
      }
      expect(untouched()).toBe(true);
    }
});

test('f16 rows are the nearest halves, ties to even, in list order; nothing else is written', () => {
  const random = new Random(3);
  for (const d of [4, 16, 20, 64, 80, 128])
    for (const from of [0, 5, 32, 63]) {
      const [H, n, count] = [3, 50, 37];
      const head = random.int(0, H - 1);
      const [k, v] = [random.normals(n * H * d, 10 ** random.int(-6, 4)), random.normals(n * H * d)];
      const order = random.next() < 0.5 ? null : Array.from({ length: count }, () => random.int(0, n - 1));
      const { row, untouched } = run(layout(F16, d), [4, 0, 7, 2], from, k, v, order, count, head, H);
      for (let i = 0; i < count; i++) {
        const at = ((order ? order[i] : i) * H + head) * d;
        expect(row(from + i, 0).values).toEqual(Array.from(k.slice(at, at + d), toHalf));
        expect(row(from + i, 1).values).toEqual(Array.from(v.slice(at, at + d), toHalf));
      }
      expect(untouched()).toBe(true);
    }
});

test('f16: every half, every tie and its neighbours; what is too large is 65504, subnormals are kept, NaN stays NaN', () => {
  // The formula itself, on numbers worked by hand: 1, 1/3, the largest, a tie to even down and up, the smallest subnormal, half of it.
  expect([1, 1 / 3, 65504, 2049, 2051, 2 ** -24, 2 ** -25, -(2 ** -14), -0].map(toHalf)).toEqual([
    0x3c00, 0x3555, 0x7bff, 0x6800, 0x6802, 1, 0, 0x8400, 0x8000,
  ]);
  for (let bits = 0; bits < 0x7c00; bits++) expect(toHalf(fromHalf(bits))).toBe(bits);
  const x = awkwardFloats();
  const d = 64;
  const count = Math.floor(x.length / d);
  const l = layout(F16, d);
  const pages = Array.from({ length: Math.ceil((count + 1) / l.E) }, (_, i) => i);
  const rows = new Float32Array((count + 1) * d);
  rows.set(x);
  const { row } = run(l, pages, 0, rows, rows, null, count + 1, 0, 1);
  const stored = Array.from({ length: count + 1 }, (_, e) => row(e, 0).values).flat();
  expect(stored).toEqual(Array.from(rows, toHalf));
  expect(Array.from({ length: count + 1 }, (_, e) => row(e, 1).values).flat()).toEqual(stored);
});

test('int8 rows: scale is max|x| / 127 and every value is the nearest step', () => {
  const random = new Random(2);
  for (const d of [4, 16, 20, 64, 80, 96, 128])
    for (const E of [undefined, 3, 7]) {
      const l = layout(INT8, d, E);
      const [H, n, count, from] = [2, 40, 33, 2];
      const head = random.int(0, H - 1);
      const [k, v] = [random.normals(n * H * d, 10 ** random.int(-6, 4)), random.normals(n * H * d)];
      const order = Array.from({ length: count }, () => random.int(0, n - 1));
      const pages = Array.from({ length: Math.ceil((from + count) / l.E) }, (_, i) => i * 2 + 1);
      const { row, untouched } = run(l, pages, from, k, v, order, count, head, H);
      for (let i = 0; i < count; i++)
        for (const [which, x] of [k, v].entries()) {
          const source = [...x.slice((order[i] * H + head) * d, (order[i] * H + head + 1) * d)];
          const most = Math.max(...source.map(Math.abs));
          const { values, scale } = row(from + i, which);
          expect(scale).toBe(Math.fround(most / 127));
          expect(Math.max(...values.map(Math.abs))).toBe(127);
          // Half a step, and 1e-4 of one for x * (127 / max) in f32 (127 * 2^-23 and the rounding of the scale).
          for (const [c, wanted] of source.entries()) expect(Math.abs(values[c] * scale - wanted)).toBeLessThanOrEqual(scale * 0.5001);
        }
      expect(untouched()).toBe(true);
    }
});

test('int8 rounds halves to even, maps a row of zeros to scale 0, and keeps tiny rows finite', () => {
  const l = layout(INT8, 8, 4);
  const k = Float32Array.from([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -127]);
  const zeros = new Float32Array(8);
  const { row } = run(l, [0], 0, k, zeros, null, 1, 0, 1);
  expect(row(0, 0)).toEqual({ scale: 1, values: [127, 0, 2, 2, 0, -2, -2, -127] });
  expect(row(0, 1)).toEqual({ scale: 0, values: Array(8).fill(0) });
  const tiny = run(l, [0], 0, new Float32Array(8).fill(1e-40), zeros, null, 1, 0, 1).row(0, 0);
  expect(tiny).toEqual({ scale: 0, values: Array(8).fill(0) });
});

test('int8 keeps a NaN row loud: its scale is NaN', () => {
  const k = Float32Array.from([1, 2, NaN, 4]);
  expect(run(layout(INT8, 4, 4), [0], 0, k, new Float32Array(4), null, 1, 0, 1).row(0, 0).scale).toBeNaN();
});
