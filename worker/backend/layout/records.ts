/**
 * How weight matrices lie in memory.
 *
 *   f32, f16, bf16   [rows, cols] row after row
 *   q8  w = scale * q             rows in groups of 4 (padded with zero rows), columns in blocks of 32 (cols % 32 == 0)
 *       record of (group g, block b) at (g * cols/32 + b) * 136
 *         0 scales f16 [4]    8 q i8 [4][32]
 *   q4  w = scale * q + min       same grouping, q in 0..15, record of 80 bytes
 *         0 scales f16 [4]    8 mins f16 [4]    16 nibbles [4][16 bytes]
 *         a row's 16 bytes are u16 lanes j = 0..7: column j in bits 0-3, 8+j in 4-7, 16+j in 8-11, 24+j in 12-15,
 *         so that a kernel gets eight neighbouring columns with one shift and one mask
 */
import type { WeightType } from '../backend.ts';
import { fromBf16, fromHalf } from './half.ts';

export interface MatrixShape {
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
}

export const BLOCK = 32;
const Q8_RECORD = 136;
const Q4_RECORD = 80;
const plainBytes = { f32: 4, f16: 2, bf16: 2 };

export function weightBytes(type: WeightType, rows: number, cols: number): number {
  if (type !== 'q8' && type !== 'q4') return rows * cols * plainBytes[type];
  return Math.ceil(rows / 4) * blocksOf(cols) * (type === 'q8' ? Q8_RECORD : Q4_RECORD);
}

export function blocksOf(cols: number): number {
  if (cols % BLOCK !== 0) throw new RangeError(`q8 and q4 need columns in multiples of ${BLOCK}, got ${cols}`);
  return cols / BLOCK;
}

/** The values a layout stands for, [rows, cols]. */
export function unpack(type: WeightType, bytes: Uint8Array, rows: number, cols: number): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Float32Array(rows * cols);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let c = 0; c < cols; c++, i++) {
      if (type === 'f32') values[i] = view.getFloat32(i * 4, true);
      else if (type === 'f16') values[i] = fromHalf(view.getUint16(i * 2, true));
      else if (type === 'bf16') values[i] = fromBf16(view.getUint16(i * 2, true));
      else if (type === 'q8') {
        const record = q8Record(row, c >> 5, blocksOf(cols));
        values[i] = fromHalf(view.getUint16(record.scale, true)) * view.getInt8(record.q + (c & 31));
      } else {
        const record = q4Record(row, c >> 5, blocksOf(cols));
        const q = (view.getUint16(record.q + (c & 7) * 2, true) >> ((c & 24) >> 1)) & 15;
        values[i] = fromHalf(view.getUint16(record.scale, true)) * q + fromHalf(view.getUint16(record.scale + 8, true));
      }
    }
  }
  return values;
}

/** Byte offsets of one row's part of a record. */
export function q8Record(row: number, block: number, blocks: number): { scale: number; q: number } {
  const record = ((row >> 2) * blocks + block) * Q8_RECORD;
  return { scale: record + (row & 3) * 2, q: record + 8 + (row & 3) * BLOCK };
}

export function q4Record(row: number, block: number, blocks: number): { scale: number; q: number } {
  const record = ((row >> 2) * blocks + block) * Q4_RECORD;
  return { scale: record + (row & 3) * 2, q: record + 16 + (row & 3) * (BLOCK / 2) };
}

export function put16(target: Uint8Array, at: number, bits: number): void {
  target[at] = bits & 255;
  target[at + 1] = bits >> 8;
}

/** Zero rows behind the last one, up to a multiple of 4. */
export function clearPadding(target: Uint8Array, type: 'q8' | 'q4', rows: number, blocks: number): void {
  for (let row = rows; row % 4 !== 0; row++) {
    for (let b = 0; b < blocks; b++) {
      const record = type === 'q8' ? q8Record(row, b, blocks) : q4Record(row, b, blocks);
      target.fill(0, record.scale, record.scale + 2);
      if (type === 'q4') target.fill(0, record.scale + 8, record.scale + 10);
      target.fill(0, record.q, record.q + (type === 'q8' ? BLOCK : BLOCK / 2));
    }
  }
}
