/**
 * The ways into a layout: from f32 rows, and from GGUF blocks by row range. Every row of a record is written by itself, so rows may come in any
 * order and number: a loader holds one chunk of rows of the file.
 */
import type { WeightType } from '../backend.ts';
import { dequantizeBlock, fiveBits, type GgufType, ggufBytes, ggufFormats, scaleMin } from './gguf-blocks.ts';
import { fromHalf, toBf16, toHalf } from './half.ts';
import { quantizeQ4, quantizeQ8 } from './quantize.ts';
import { BLOCK, blocksOf, clearPadding, type MatrixShape, put16, q4Record, q8Record, weightBytes } from './records.ts';

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

export function pack(type: WeightType, values: Float32Array, rows: number, cols: number): Uint8Array {
  const target = new Uint8Array(weightBytes(type, rows, cols));
  packRows(target, { type, rows, cols }, values, { first: 0, count: rows });
  return target;
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
