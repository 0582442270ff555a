/**
 * How weight matrices lie in memory, and the ways in: from f32 rows, and from GGUF blocks by row range.
 *
 *   f32, f16, bf16   [rows, cols] row after row
 *   q8  w = scale * q             rows in groups of 4 (padded with zero rows), columns in blocks of 32 (cols % 32 == 0)
 *       record of (group g, block b) at (g * cols/32 + b) * 136
 *         0 scales f16 [4]    8 q i8 [4][32]
 *   q4  w = scale * q + min       same grouping, q in 0..15, record of 80 bytes
 *         0 scales f16 [4]    8 mins f16 [4]    16 nibbles [4][16 bytes]
 *         a row's 16 bytes are u16 lanes j = 0..7: column j in bits 0-3, 8+j in 4-7, 16+j in 8-11, 24+j in 12-15,
 *         so that a kernel gets eight neighbouring columns with one shift and one mask
 *
 * Every row of a record is written by itself, so rows may come in any order and number: a loader holds one chunk of rows of the file.
 */
import type { WeightType } from './backend.ts';

export interface MatrixShape {
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
}

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

const BLOCK = 32;
const Q8_RECORD = 136;
const Q4_RECORD = 80;
const plainBytes = { f32: 4, f16: 2, bf16: 2 };

export function weightBytes(type: WeightType, rows: number, cols: number): number {
  if (type !== 'q8' && type !== 'q4') return rows * cols * plainBytes[type];
  return Math.ceil(rows / 4) * blocksOf(cols) * (type === 'q8' ? Q8_RECORD : Q4_RECORD);
}

/** Bytes of `rows` rows in the file. */
export function ggufBytes(type: GgufType, rows: number, cols: number): number {
  const { count, bytes } = ggufFormats[type];
  if (cols % count !== 0) throw new RangeError(`${type} needs columns in multiples of ${count}, got ${cols}`);
  return (rows * cols * bytes) / count;
}

function blocksOf(cols: number): number {
  if (cols % BLOCK !== 0) throw new RangeError(`q8 and q4 need columns in multiples of ${BLOCK}, got ${cols}`);
  return cols / BLOCK;
}

/** Rows [first, first + count) of a matrix on their way into memory. */
export interface RowRange {
  readonly first: number;
  readonly count: number;
  /** Where row r of the source goes; r itself by default. See `halfSplitRow`. */
  readonly rowMap?: (row: number) => number;
  /** The row at which `target` begins, a multiple of 4; 0 by default. */
  readonly base?: number;
}

/** GGUF keeps q and k of the llama family with a head's rows interleaved (0, d/2, 1, d/2+1, ...); kernels rotate halves. */
export function halfSplitRow(row: number, headDim: number): number {
  const inHead = row % headDim;
  return row - inHead + (inHead & 1) * (headDim / 2) + (inHead >> 1);
}

/** Writes rows of a GGUF tensor, `source` holding just those, into a matrix of the type `ggufFormats[gguf].layout`. */
export function repackGguf(target: Uint8Array, shape: MatrixShape, gguf: GgufType, source: Uint8Array, range: RowRange): void {
  const format = ggufFormats[gguf];
  if (shape.type !== format.layout) throw new RangeError(`${gguf} becomes ${format.layout}, not ${shape.type}`);
  const rowBytes = ggufBytes(gguf, 1, shape.cols);
  if (source.length !== rowBytes * range.count)
    throw new RangeError(`${range.count} rows of ${gguf} are ${rowBytes * range.count} bytes, got ${source.length}`);
  const from = new DataView(source.buffer, source.byteOffset, source.byteLength);
  const values = new Float32Array(format.count);
  eachRow(target, shape, range, (row, i) => {
    let at = i * rowBytes;
    if (shape.type !== 'q8' && shape.type !== 'q4') {
      target.set(source.subarray(at, at + rowBytes), row * rowBytes);
      return;
    }
    const blocks = blocksOf(shape.cols);
    for (let b = 0; b < blocks; b += format.count / BLOCK, at += format.bytes) {
      if (gguf === 'Q8_0' || gguf === 'Q5_0') {
        const record = q8Record(row, b, blocks);
        target[record.scale] = source[at];
        target[record.scale + 1] = source[at + 1];
        if (gguf === 'Q8_0') target.set(source.subarray(at + 2, at + 34), record.q);
        else for (let c = 0; c < BLOCK; c++) target[record.q + c] = fiveBits(source, at + 2, c) - 16;
      } else if (gguf === 'Q4_0' || gguf === 'Q4_1') {
        const scale = from.getUint16(at, true);
        const low = gguf === 'Q4_1' ? from.getUint16(at + 2, true) : toHalf(-8 * fromHalf(scale));
        writeQ4(target, row, b, blocks, scale, low, source, at + format.bytes - 16, 15, 4);
      } else if (gguf === 'Q4_K') {
        const d = fromHalf(from.getUint16(at, true));
        const dmin = fromHalf(from.getUint16(at + 2, true));
        for (let k = 0; k < 8; k++) {
          const [scale, low] = scaleMin(source, at + 4, k);
          writeQ4(target, row, b + k, blocks, toHalf(d * scale), toHalf(-dmin * low), source, at + 16 + (k >> 1) * 32, k & 1 ? 0xf0 : 0x0f, 0);
        }
      } else {
        dequantizeBlock[gguf](from, at, values, 0);
        for (let k = 0; k < format.count / BLOCK; k++) quantizeQ8(target, row, b + k, blocks, values, k * BLOCK);
      }
    }
  });
}

/** Writes f32 rows, [count, cols], in any layout; q8 and q4 quantise. */
export function packRows(target: Uint8Array, shape: MatrixShape, values: Float32Array, range: RowRange): void {
  const { type, cols } = shape;
  if (values.length !== range.count * cols) throw new RangeError(`${range.count} rows are ${range.count * cols} values, got ${values.length}`);
  const to = new DataView(target.buffer, target.byteOffset, target.byteLength);
  eachRow(target, shape, range, (row, i) => {
    const from = i * cols;
    if (type === 'q8' || type === 'q4') {
      const blocks = blocksOf(cols);
      const quantize = type === 'q8' ? quantizeQ8 : quantizeQ4;
      for (let b = 0; b < blocks; b++) quantize(target, row, b, blocks, values, from + b * BLOCK);
      return;
    }
    for (let c = 0; c < cols; c++) {
      const at = row * cols + c;
      if (type === 'f32') to.setFloat32(at * 4, values[from + c], true);
      else to.setUint16(at * 2, type === 'f16' ? toHalf(values[from + c]) : toBf16(values[from + c]), true);
    }
  });
}

export function packQ8(values: Float32Array, rows: number, cols: number): Uint8Array {
  return pack('q8', values, rows, cols);
}

export function packQ4(values: Float32Array, rows: number, cols: number): Uint8Array {
  return pack('q4', values, rows, cols);
}

export function pack(type: WeightType, values: Float32Array, rows: number, cols: number): Uint8Array {
  const target = new Uint8Array(weightBytes(type, rows, cols));
  packRows(target, { type, rows, cols }, values, { first: 0, count: rows });
  return target;
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

/** Calls back with the row's place in `target` and its number in the chunk. The last row also clears the padding behind it. */
function eachRow(target: Uint8Array, shape: MatrixShape, range: RowRange, write: (row: number, i: number) => void): void {
  const { type, rows, cols } = shape;
  const base = range.base ?? 0;
  if (base % 4 !== 0) throw new RangeError(`a target begins at a multiple of 4 rows, got ${base}`);
  for (let i = 0; i < range.count; i++) {
    const row = range.rowMap ? range.rowMap(range.first + i) : range.first + i;
    if (!(row >= base && row < rows)) throw new RangeError(`row ${row} is not between ${base} and ${rows - 1}`);
    write(row - base, i);
    if (row === rows - 1 && (type === 'q8' || type === 'q4')) clearPadding(target, type, rows - base, blocksOf(cols));
  }
}

function clearPadding(target: Uint8Array, type: 'q8' | 'q4', rows: number, blocks: number): void {
  for (let row = rows; row % 4 !== 0; row++) {
    for (let b = 0; b < blocks; b++) {
      const record = type === 'q8' ? q8Record(row, b, blocks) : q4Record(row, b, blocks);
      target.fill(0, record.scale, record.scale + 2);
      if (type === 'q4') target.fill(0, record.scale + 8, record.scale + 10);
      target.fill(0, record.q, record.q + (type === 'q8' ? BLOCK : BLOCK / 2));
    }
  }
}

/** Byte offsets of one row's part of a record. */
function q8Record(row: number, block: number, blocks: number): { scale: number; q: number } {
  const record = ((row >> 2) * blocks + block) * Q8_RECORD;
  return { scale: record + (row & 3) * 2, q: record + 8 + (row & 3) * BLOCK };
}

function q4Record(row: number, block: number, blocks: number): { scale: number; q: number } {
  const record = ((row >> 2) * blocks + block) * Q4_RECORD;
  return { scale: record + (row & 3) * 2, q: record + 16 + (row & 3) * (BLOCK / 2) };
}

function put16(target: Uint8Array, at: number, bits: number): void {
  target[at] = bits & 255;
  target[at + 1] = bits >> 8;
}

/**
 * One row of one block, from GGUF nibbles. `mask` picks the nibbles of columns 0..: 0x0f or 0xf0 of 32 bytes (Q4_K, `split` 0), or the low ones
 * of 16 bytes and then the high ones (Q4_0, Q4_1: `split` 4).
 */
function writeQ4(
  target: Uint8Array,
  row: number,
  block: number,
  blocks: number,
  scale: number,
  low: number,
  source: Uint8Array,
  at: number,
  mask: number,
  split: number,
): void {
  const record = q4Record(row, block, blocks);
  put16(target, record.scale, scale);
  put16(target, record.scale + 8, low);
  const shift = mask === 0xf0 ? 4 : 0;
  const further = split ? 0 : 16; // where columns 16.. begin
  for (let j = 0; j < 8; j++) {
    const a = (source[at + j] >> shift) & 15;
    const b = (source[at + 8 + j] >> shift) & 15;
    const c = (source[at + further + j] >> (shift + split)) & 15;
    const d = (source[at + further + 8 + j] >> (shift + split)) & 15;
    target[record.q + 2 * j] = a | (b << 4);
    target[record.q + 2 * j + 1] = c | (d << 4);
  }
}

function quantizeQ8(target: Uint8Array, row: number, block: number, blocks: number, values: Float32Array, at: number): void {
  let top = 0;
  for (let c = 0; c < BLOCK; c++) {
    const size = Math.abs(values[at + c]);
    if (size > top) top = size;
  }
  let bits = toHalf(top / 127);
  if (fromHalf(bits) * 127.49 < top) bits++; // a subnormal scale rounded far down would make 128 of 127
  const scale = fromHalf(bits);
  const inverse = scale > 0 ? 1 / scale : 0;
  const record = q8Record(row, block, blocks);
  put16(target, record.scale, bits);
  for (let c = 0; c < BLOCK; c++) target[record.q + c] = ((values[at + c] * inverse + 128.5) | 0) - 128; // rounds: truncation of a positive number
}

/** Ranges tried around max - min, in steps of the 15 between: a narrower one clips outliers and gives the rest finer steps. Six tries: 2% less error, twice the time. */
const rangeTries = [0, -0.6, 0.4];
const nibbles = new Uint8Array(BLOCK);

/** Least squares for scale and min at each range tried; the best after rounding both to f16 stays, the plain range among them. */
function quantizeQ4(target: Uint8Array, row: number, block: number, blocks: number, values: Float32Array, at: number): void {
  let top = values[at];
  let bottom = top;
  let sum = 0;
  for (let c = 0; c < BLOCK; c++) {
    const value = values[at + c];
    if (value > top) top = value;
    if (value < bottom) bottom = value;
    sum += value;
  }
  let bestScale = toHalf((top - bottom) / 15);
  let bestLow = toHalf(bottom);
  let best = roundNibbles(values, at, fromHalf(bestScale), fromHalf(bestLow));
  for (let i = 0; top > bottom && i < rangeTries.length; i++) {
    const inverse = (15 + rangeTries[i]) / (top - bottom);
    let q1 = 0;
    let q2 = 0;
    let qx = 0;
    for (let c = 0; c < BLOCK; c++) {
      const value = values[at + c];
      const q = nibble((value - bottom) * inverse);
      q1 += q;
      q2 += q * q;
      qx += q * value;
    }
    const determinant = BLOCK * q2 - q1 * q1;
    if (determinant <= 0) continue;
    const scale = toHalf((BLOCK * qx - q1 * sum) / determinant);
    const low = toHalf((q2 * sum - q1 * qx) / determinant);
    const error = roundNibbles(values, at, fromHalf(scale), fromHalf(low));
    if (error < best) {
      best = error;
      bestScale = scale;
      bestLow = low;
    }
  }
  roundNibbles(values, at, fromHalf(bestScale), fromHalf(bestLow));
  const record = q4Record(row, block, blocks);
  put16(target, record.scale, bestScale);
  put16(target, record.scale + 8, bestLow);
  for (let j = 0; j < 8; j++) {
    target[record.q + 2 * j] = nibbles[j] | (nibbles[8 + j] << 4);
    target[record.q + 2 * j + 1] = nibbles[16 + j] | (nibbles[24 + j] << 4);
  }
}

/** Rounded, in 0..15. Truncation of a number that is positive after + 0.5 rounds; the rest is clamped to 0. */
function nibble(x: number): number {
  const q = (x + 0.5) | 0;
  return q < 0 ? 0 : Math.min(q, 15);
}

/** Fills `nibbles`; returns the squared error. */
function roundNibbles(values: Float32Array, at: number, scale: number, low: number): number {
  const inverse = scale !== 0 ? 1 / scale : 0;
  let error = 0;
  for (let c = 0; c < BLOCK; c++) {
    const value = values[at + c];
    const q = nibble((value - low) * inverse);
    const off = scale * q + low - value;
    nibbles[c] = q;
    error += off * off;
  }
  return error;
}

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

export function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  if (exponent === 31) return bits & 0x3ff ? Number.NaN : bits & 0x8000 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  u32[0] = ((bits & 0x8000) << 16) | ((bits & 0x7fff) << 13);
  return f32[0] * 2 ** 112; // the exponent's bias is 127 in f32, 15 in f16; subnormals come out right as well
}

/** To the nearest, ties to even; beyond 65504 infinite. */
export function toHalf(value: number): number {
  f32[0] = value;
  const bits = u32[0];
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return 0x7e00;
  if (size >= 0x477ff000) return sign | 0x7c00; // 65520 and more
  if (size < 0x38800000) {
    // below 2^-14 steps are 2^-24: adding 0.5 leaves their number in the low bits of the f32, rounded to even
    f32[0] = Math.abs(value) + 0.5;
    return sign | (u32[0] - 0x3f000000);
  }
  return sign | ((size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13);
}

export function fromBf16(bits: number): number {
  u32[0] = bits << 16;
  return f32[0];
}

/** To the nearest, ties to even. */
export function toBf16(value: number): number {
  f32[0] = value;
  if (Number.isNaN(value)) return 0x7fc0;
  return ((u32[0] + 0x7fff + ((u32[0] >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Q5_0 and Q5_1: 4 bytes of fifth bits, then 16 of nibbles. */
function fiveBits(source: Uint8Array, at: number, column: number): number {
  const nibble = column < 16 ? source[at + 4 + column] & 15 : source[at + 4 + column - 16] >> 4;
  return nibble | (((source[at + (column >> 3)] >> (column & 7)) & 1) << 4);
}

/** Sub-block k of a Q4_K or Q5_K block: two 6-bit numbers out of 12 bytes. */
function scaleMin(source: Uint8Array, at: number, k: number): [scale: number, min: number] {
  if (k < 4) return [source[at + k] & 63, source[at + k + 4] & 63];
  return [(source[at + k + 4] & 15) | ((source[at + k - 4] >> 6) << 4), (source[at + k + 4] >> 4) | ((source[at + k] >> 6) << 4)];
}

type DequantizeBlock = (view: DataView, at: number, out: Float32Array, to: number) => void;

const bytesOf = (view: DataView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const half = (view: DataView, at: number) => fromHalf(view.getUint16(at, true));

const dequantizeBlock: Record<GgufType, DequantizeBlock> = {
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
