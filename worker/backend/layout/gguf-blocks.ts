/** GGUF's quantised blocks: their sizes, what they stand for, and the layout that each type becomes in memory. */
import type { WeightType } from '../backend.ts';
import { fromBf16, fromHalf } from './half.ts';

export type GgufType = 'F32' | 'F16' | 'BF16' | 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

interface GgufFormat {
  /** Weights and bytes of one block. */
  readonly count: number;
  readonly bytes: number;
  /** The layout it becomes. */
  readonly layout: WeightType;
}

/**
 * What becomes of each type. Exact: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q8_0. Q4_K: scale and min are rounded to f16 (each off by at most 2^-11 of
 * itself). Q5_1, Q5_K, Q6_K: dequantised and requantised to q8, off by at most max|w| of the block / 253.
 */
export const ggufFormats: Record<GgufType, GgufFormat> = {
  F32: { count: 1, bytes: 4, layout: 'f32' },
  F16: { count: 1, bytes: 2, layout: 'f16' },
  BF16: { count: 1, bytes: 2, layout: 'bf16' },
  Q4_0: { count: 32, bytes: 18, layout: 'q4' },
  Q4_1: { count: 32, bytes: 20, layout: 'q4' },
  Q5_0: { count: 32, bytes: 22, layout: 'q8' },
  Q5_1: { count: 32, bytes: 24, layout: 'q8' },
  Q8_0: { count: 32, bytes: 34, layout: 'q8' },
  Q4_K: { count: 256, bytes: 144, layout: 'q4' },
  Q5_K: { count: 256, bytes: 176, layout: 'q8' },
  Q6_K: { count: 256, bytes: 210, layout: 'q8' },
};

/** Bytes of `rows` rows in the file. */
export function ggufBytes(type: GgufType, rows: number, cols: number): number {
  const { count, bytes } = ggufFormats[type];
  if (cols % count !== 0) throw new RangeError(`${type} needs columns in multiples of ${count}, got ${cols}`);
  return (rows * cols * bytes) / count;
}

/** `count` weights from GGUF blocks, as gguf-py gives them. */
export function dequantizeGguf(type: GgufType, bytes: Uint8Array, count: number): Float32Array {
  const format = ggufFormats[type];
  if (ggufBytes(type, 1, count) !== bytes.length)
    throw new RangeError(`${count} weights of ${type} are ${ggufBytes(type, 1, count)} bytes, got ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Float32Array(count);
  for (let i = 0, at = 0; i < count; i += format.count, at += format.bytes) dequantizeBlock[type](view, at, values, i);
  return values;
}

/** Q5_0 and Q5_1: 4 bytes of fifth bits, then 16 of nibbles. */
export function fiveBits(source: Uint8Array, at: number, column: number): number {
  const nibble = column < 16 ? source[at + 4 + column] & 15 : source[at + 4 + column - 16] >> 4;
  return nibble | (((source[at + (column >> 3)] >> (column & 7)) & 1) << 4);
}

/** Sub-block k of a Q4_K or Q5_K block: two 6-bit numbers out of 12 bytes. */
export function scaleMin(source: Uint8Array, at: number, k: number): [scale: number, min: number] {
  if (k < 4) return [source[at + k] & 63, source[at + k + 4] & 63];
  return [(source[at + k + 4] & 15) | ((source[at + k - 4] >> 6) << 4), (source[at + k + 4] >> 4) | ((source[at + k] >> 6) << 4)];
}

type DequantizeBlock = (view: DataView, at: number, out: Float32Array, to: number) => void;

const bytesOf = (view: DataView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const half = (view: DataView, at: number) => fromHalf(view.getUint16(at, true));

/** Writes the weights of the block at `at` to `out` from `to` on. */
export const dequantizeBlock: Record<GgufType, DequantizeBlock> = {
  F32: (view, at, out, to) => {
    out[to] = view.getFloat32(at, true);
  },
  F16: (view, at, out, to) => {
    out[to] = half(view, at);
  },
  BF16: (view, at, out, to) => {
    out[to] = fromBf16(view.getUint16(at, true));
  },
  Q4_0: (view, at, out, to) => {
    const d = half(view, at);
    for (let c = 0; c < 32; c++) out[to + c] = d * (((view.getUint8(at + 2 + (c & 15)) >> (c < 16 ? 0 : 4)) & 15) - 8);
  },
  Q4_1: (view, at, out, to) => {
    const d = half(view, at);
    const m = half(view, at + 2);
    for (let c = 0; c < 32; c++) out[to + c] = d * ((view.getUint8(at + 4 + (c & 15)) >> (c < 16 ? 0 : 4)) & 15) + m;
  },
  Q5_0: (view, at, out, to) => {
    const d = half(view, at);
    const source = bytesOf(view);
    for (let c = 0; c < 32; c++) out[to + c] = d * (fiveBits(source, at + 2, c) - 16);
  },
  Q5_1: (view, at, out, to) => {
    const d = half(view, at);
    const m = half(view, at + 2);
    const source = bytesOf(view);
    for (let c = 0; c < 32; c++) out[to + c] = d * fiveBits(source, at + 4, c) + m;
  },
  Q8_0: (view, at, out, to) => {
    const d = half(view, at);
    for (let c = 0; c < 32; c++) out[to + c] = d * view.getInt8(at + 2 + c);
  },
  // d, dmin, 8 x (scale, min) of 6 bits, then nibbles: 32 bytes hold columns 64i.. in the low half and 64i+32.. in the high one
  Q4_K: (view, at, out, to) => {
    const d = half(view, at);
    const dmin = half(view, at + 2);
    const source = bytesOf(view);
    for (let k = 0; k < 8; k++) {
      const [scale, low] = scaleMin(source, at + 4, k);
      const shift = k & 1 ? 4 : 0;
      for (let c = 0; c < 32; c++) out[to + k * 32 + c] = d * scale * ((source[at + 16 + (k >> 1) * 32 + c] >> shift) & 15) - dmin * low;
    }
  },
  // Q4_K with 32 bytes of fifth bits before the nibbles: bit k of byte c belongs to column c of sub-block k
  Q5_K: (view, at, out, to) => {
    const d = half(view, at);
    const dmin = half(view, at + 2);
    const source = bytesOf(view);
    for (let k = 0; k < 8; k++) {
      const [scale, low] = scaleMin(source, at + 4, k);
      const shift = k & 1 ? 4 : 0;
      for (let c = 0; c < 32; c++) {
        const q = ((source[at + 48 + (k >> 1) * 32 + c] >> shift) & 15) | (((source[at + 16 + c] >> k) & 1) << 4);
        out[to + k * 32 + c] = d * scale * q - dmin * low;
      }
    }
  },
  // ql 128 bytes, qh 64 bytes, 16 i8 scales, d. Each half of 128 columns: column c has nibble c%64 (high half of the byte from 64 on), 2 bits of qh[c%32]
  Q6_K: (view, at, out, to) => {
    const d = half(view, at + 208);
    for (let i = 0; i < 256; i++) {
      const c = i & 127;
      const second = i >> 7;
      const nibble = (view.getUint8(at + second * 64 + (c & 63)) >> (c < 64 ? 0 : 4)) & 15;
      const top = (view.getUint8(at + 128 + second * 32 + (c & 31)) >> ((c >> 5) * 2)) & 3;
      out[to + i] = d * view.getInt8(at + 192 + (i >> 4)) * ((nibble | (top << 4)) - 32);
    }
  },
};
