/**
 * Entries of the cache on the host, as rows: out of the pages' bytes and into them bit for bit, and from one entry type to another. Pages are drawn in asm/entry-page.ts.
 *
 *   int8   scale s = max |x| / 127 of the row,  q = round half to even(x / s),  so that |x - q s| <= s / 2 for every component; as asm/store-entries.ts has it
 *   f16    to nearest, ties to even; beyond +-65504 that
 */
import type { EntryType } from '../../backend/backend.ts';
import { fromHalf, toHalf } from '../../backend/layout/half.ts';

/** N rows of d components; scales of int8 rows alone. */
export interface EntryRows {
  readonly type: EntryType;
  readonly k: Uint8Array; // [N, d] of the type, little-endian
  readonly v: Uint8Array; // [N, d]
  readonly kScale: Float32Array; // [N], or none
  readonly vScale: Float32Array; // [N], or none
}

export interface PageGeometry {
  readonly entryType: EntryType;
  readonly entriesPerPage: number; // E
  readonly pageBytes: number;
  readonly headDim: number; // d
}

export const COMPONENT_BYTES: Readonly<Record<EntryType, number>> = { f32: 4, f16: 2, int8: 1 };

export function emptyRows(type: EntryType, count: number, headDim: number): EntryRows {
  const rows = (): Uint8Array => new Uint8Array(count * headDim * COMPONENT_BYTES[type]);
  const scales = (): Float32Array => new Float32Array(type === 'int8' ? count : 0);
  return { type, k: rows(), v: rows(), kScale: scales(), vScale: scales() };
}

/** Where of one page the rows lie that it has `count` of, and where in `rows` from row `first` on: pairs of equal length. */
function* pieces(rows: EntryRows, first: number, page: Uint8Array, count: number, { entryType, entriesPerPage: E, headDim: d }: PageGeometry) {
  const row = d * COMPONENT_BYTES[entryType];
  const bytes = (of: Float32Array): Uint8Array => new Uint8Array(of.buffer, of.byteOffset, of.byteLength);
  yield [rows.k.subarray(first * row, (first + count) * row), page.subarray(0, count * row)] as const;
  yield [rows.v.subarray(first * row, (first + count) * row), page.subarray(E * row, (E + count) * row)] as const;
  if (entryType !== 'int8') return;
  const scales = (2 * E * row + 3) & ~3;
  yield [bytes(rows.kScale).subarray(first * 4, (first + count) * 4), page.subarray(scales, scales + count * 4)] as const;
  yield [bytes(rows.vScale).subarray(first * 4, (first + count) * 4), page.subarray(scales + E * 4, scales + (E + count) * 4)] as const;
}

/** Rows first .. first + count - 1 become the first `count` entries of a page. */
export function rowsFromPage(rows: EntryRows, first: number, page: Uint8Array, count: number, geometry: PageGeometry): void {
  for (const [there, here] of pieces(rows, first, page, count, geometry)) there.set(here);
}

/** The other way round: a page with these entries, and zeros behind them. */
export function pageOfRows(rows: EntryRows, first: number, count: number, geometry: PageGeometry): Uint8Array {
  const page = new Uint8Array(geometry.pageBytes);
  for (const [there, here] of pieces(rows, first, page, count, geometry)) here.set(there);
  return page;
}

/** Rows of another type; of the same they are what they were. */
export function asType(rows: EntryRows, type: EntryType, headDim: number): EntryRows {
  if (rows.type === type) return rows;
  const count = rows.k.length / (headDim * COMPONENT_BYTES[rows.type]);
  const out = emptyRows(type, count, headDim);
  for (const [to, toScale, from, fromScale] of [
    [out.k, out.kScale, rows.k, rows.kScale],
    [out.v, out.vScale, rows.v, rows.vScale],
  ] as const) {
    const values = numbersOf(from, fromScale, rows.type, headDim);
    if (type === 'f32') to.set(new Uint8Array(values.buffer));
    else if (type === 'f16') new Uint16Array(to.buffer).set(values.map(clampedHalf));
    else for (let i = 0; i < count; i++) toScale[i] = quantise(new Int8Array(to.buffer, i * headDim, headDim), values.subarray(i * headDim));
  }
  return out;
}

/** [N, d] as f32: f16 exactly, int8 as value * scale. */
export function numbersOf(rows: Uint8Array, scales: Float32Array, type: EntryType, headDim: number): Float32Array {
  const own = rows.slice().buffer; // at an address that any type may have
  if (type === 'f32') return new Float32Array(own);
  if (type === 'f16') return Float32Array.from(new Uint16Array(own), fromHalf);
  return Float32Array.from(new Int8Array(own), (value, i) => value * scales[Math.floor(i / headDim)]);
}

function clampedHalf(value: number): number {
  return toHalf(Math.min(65504, Math.max(-65504, value)));
}

const { fround } = Math;
const ROUND = 12582912; // 1.5 * 2^23: the sum's low bits are the nearest integer, halves to even

/** Writes a row as int8 and returns its scale, in the kernel's own arithmetic: the same bytes. */
function quantise(out: Int8Array, x: Float32Array): number {
  let most = 0;
  for (let c = 0; c < out.length; c++) most = Number.isNaN(x[c]) ? x[c] : Math.max(most, Math.abs(x[c])); // NaN stays, and is refused
  const top = most < 1e-36 ? 0 : most; // 127 / top would not be finite
  const inverse = top === 0 ? 0 : fround(127 / top);
  for (let c = 0; c < out.length; c++) out[c] = fround(fround(fround(x[c] * inverse) + ROUND) - ROUND);
  return fround(top / 127);
}

/** Whether all that the rows stand for are finite numbers. */
export function areNumbers({ type, k, v, kScale, vScale }: EntryRows): boolean {
  if (type === 'int8') return [kScale, vScale].every((scales) => scales.every((scale) => scale >= 0 && Number.isFinite(fround(scale * 128))));
  const words = (rows: Uint8Array) => (type === 'f32' ? new Uint32Array(rows.slice().buffer) : new Uint16Array(rows.slice().buffer));
  const exponent = type === 'f32' ? 0x7f800000 : 0x7c00;
  return [k, v].every((rows) => words(rows).every((word) => (word & exponent) !== exponent));
}
