import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { dequantizeGguf, type GgufType, ggufBytes, ggufFormats } from '../worker/backend/layout/gguf-blocks.ts';
import { fromBf16, fromHalf, toBf16, toHalf } from '../worker/backend/layout/half.ts';
import { halfSplitRow, pack, packRows, repackGguf } from '../worker/backend/layout/pack.ts';
import { unpack, weightBytes } from '../worker/backend/layout/records.ts';
import { Random } from './support/random.ts';

/** Blocks quantised and dequantised by gguf-py: test/golden/gguf. */
interface Golden {
  type: GgufType;
  rows: number;
  columns: number;
  raw: string;
  values: string;
}
const golden: Golden[] = JSON.parse(readFileSync('test/golden/gguf/blocks.json', 'utf8'));
const decode = (base64: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(base64, 'base64')); // a copy, so aligned
const ggufTypes = Object.keys(ggufFormats) as GgufType[];

/** Any bits but infinite and NaN scales: what a file may hold, extremes included. */
function randomBlocks(type: GgufType, weights: number, random: Random): Uint8Array {
  const bytes = Uint8Array.from({ length: ggufBytes(type, 1, weights) }, () => random.int(0, 255));
  const { bytes: size } = ggufFormats[type];
  const halves = {
    F32: [],
    F16: [0],
    BF16: [0],
    Q4_0: [0],
    Q4_1: [0, 2],
    Q5_0: [0],
    Q5_1: [0, 2],
    Q8_0: [0],
    Q4_K: [0, 2],
    Q5_K: [0, 2],
    Q6_K: [208],
  }[type];
  for (let at = 0; at < bytes.length; at += size)
    for (const half of halves) bytes[at + half + 1] = (bytes[at + half + 1] & 0x83) | (random.int(4, 11) << 2); // 2^-11..2^-4
  if (type === 'F32') new Float32Array(bytes.buffer).set(random.normals(weights));
  return bytes;
}

/** How far a weight may move on its way from GGUF into its layout; `block` is the 32 weights it belongs to. */
function allowed(type: GgufType, block: Float32Array): number {
  const top = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (type === 'Q5_1' || type === 'Q5_K' || type === 'Q6_K') return top / 253; // half a step of max / 127, the scale rounded to f16
  // scale * q and min each off by 2^-11 of themselves. With random bytes both are below 63 * 2^-4, and q is up to 15
  if (type === 'Q4_K') return 2 ** -11 * 2 * 63 * 2 ** -3 * 15;
  return 0;
}

describe('halves', () => {
  it('toHalf inverts fromHalf on every finite f16, and rounds the midpoint between two to the even one', () => {
    for (let bits = 0; bits < 0x7c00; bits++) {
      for (const sign of [0, 0x8000]) expect(toHalf(fromHalf(bits | sign))).toBe(bits | sign);
      if (bits === 0x7bff) continue;
      const middle = (fromHalf(bits) + fromHalf(bits + 1)) / 2;
      expect(toHalf(middle)).toBe(bits + (bits & 1));
      expect(toHalf(-middle * (1 + 2 ** -20))).toBe(0x8000 | (bits + 1));
      expect(toHalf(middle * (1 - 2 ** -20))).toBe(bits);
    }
    expect([fromHalf(0x3c00), fromHalf(0xc000), fromHalf(1), fromHalf(0x7bff), fromHalf(0x0400)]).toEqual([1, -2, 2 ** -24, 65504, 2 ** -14]);
    expect([toHalf(65520), toHalf(-1e9), toHalf(Number.NaN), toHalf(1e-9)]).toEqual([0x7c00, 0xfc00, 0x7e00, 0]);
  });

  it('toBf16 inverts fromBf16 and rounds to the nearest, ties to even', () => {
    for (const bits of [0, 0x8000, 1, 0x3f80, 0xc2f7, 0x7f7f]) expect(toBf16(fromBf16(bits))).toBe(bits);
    expect([toBf16(1 + 2 ** -8), toBf16(1 + 3 * 2 ** -8), toBf16(1 + 2 ** -8 + 2 ** -20)]).toEqual([0x3f80, 0x3f82, 0x3f81]);
  });
});

describe('weight layout', () => {
  it('sizes: rows of q8 and q4 are padded to groups of 4; columns must be whole blocks', () => {
    expect(weightBytes('q8', 5, 64)).toBe(2 * 2 * 136);
    expect(weightBytes('q4', 5, 64)).toBe(2 * 2 * 80);
    expect([weightBytes('f32', 5, 3), weightBytes('f16', 5, 3), weightBytes('bf16', 5, 3)]).toEqual([60, 30, 30]);
    expect(() => weightBytes('q4', 4, 48)).toThrow('multiples of 32, got 48');
  });

  it('q4: the drawn bytes, by hand', () => {
    const values = Float32Array.from({ length: 6 * 32 }, (_, i) => ((i * 7) % 16) * 0.5 - 2); // every row holds all of 0..15 twice: scale 0.5, min -2
    const bytes = pack('q4', values, 6, 32);
    const view = new DataView(bytes.buffer);
    const record = 80; // row 5 is row 1 of group 1
    expect([view.getUint16(record + 2, true), view.getUint16(record + 10, true)]).toEqual([toHalf(0.5), toHalf(-2)]);
    const q = (column: number): number => ((5 * 32 + column) * 7) % 16;
    for (let j = 0; j < 8; j++) expect(view.getUint16(record + 32 + 2 * j, true)).toBe(q(j) | (q(8 + j) << 4) | (q(16 + j) << 8) | (q(24 + j) << 12));
    expect(unpack('q4', bytes, 6, 32)).toEqual(values);
    expect([...bytes.subarray(record + 48, record + 80)]).toEqual(new Array(32).fill(0)); // rows 6 and 7 are padding
  });

  it('q8: the drawn bytes, by hand', () => {
    const values = Float32Array.from({ length: 5 * 64 }, (_, i) => (((i * 31) % 255) - 127) * 0.25);
    for (let row = 0; row < 5; row++) for (const block of [0, 32]) values[row * 64 + block] = 31.75; // 127 in every block: scale 0.25
    const bytes = pack('q8', values, 5, 64);
    const view = new DataView(bytes.buffer);
    const record = 136; // rows 0..3, columns 32..63
    expect(view.getUint16(record + 4, true)).toBe(toHalf(0.25));
    for (let c = 0; c < 32; c++) expect(view.getInt8(record + 8 + 64 + c) * 0.25).toBe(values[2 * 64 + 32 + c]);
    expect(unpack('q8', bytes, 5, 64)).toEqual(values);
  });

  it('q8 is off by at most half a step; q4 by less than plain min-max rounding, in total', () => {
    const random = new Random(31);
    const values = random.normals(37 * 96, 0.1);
    values.fill(0, 0, 32);
    values.fill(-0.75, 32, 64);
    values.fill(1e-8, 64, 96); // below the smallest f16
    const q8 = unpack('q8', pack('q8', values, 37, 96), 37, 96);
    const q4 = unpack('q4', pack('q4', values, 37, 96), 37, 96);
    let error = 0;
    let plain = 0;
    for (let at = 0; at < values.length; at += 32) {
      const block = values.subarray(at, at + 32);
      const top = Math.max(...block);
      const bottom = Math.min(...block);
      for (let c = 0; c < 32; c++) {
        expect(Math.abs(q8[at + c] - block[c])).toBeLessThanOrEqual(Math.max(Math.abs(top), Math.abs(bottom)) / 253 + 2 ** -25);
        error += (q4[at + c] - block[c]) ** 2;
        const step = (top - bottom) / 15 || 1;
        plain += (bottom + step * Math.round((block[c] - bottom) / step) - block[c]) ** 2;
      }
    }
    expect(q4.subarray(32, 64)).toEqual(new Float32Array(32).fill(-0.75)); // a constant block is exact
    expect(error).toBeLessThan(0.95 * plain);
    expect(error).toBeGreaterThan(0);
  });

  it('packRows puts rows where the map says, in pieces, and clears the padding of a dirty target', () => {
    const random = new Random(32);
    for (const type of ['f32', 'f16', 'bf16', 'q8', 'q4'] as const) {
      const [rows, cols, headDim] = [14, 64, 7 * 2];
      const values = random.normals(rows * cols);
      const whole = pack(type, values, rows, cols);
      const target = new Uint8Array(whole.length).fill(0xee);
      const back = Array.from({ length: rows }, (_, row) => row).sort((a, b) => halfSplitRow(a, headDim) - halfSplitRow(b, headDim));
      const mixed = Float32Array.from({ length: rows * cols }, (_, i) => values[halfSplitRow(Math.floor(i / cols), headDim) * cols + (i % cols)]);
      for (const [first, count] of [
        [5, 6],
        [0, 5],
        [11, 3],
      ]) {
        packRows(target, { type, rows, cols }, mixed.subarray(first * cols, (first + count) * cols), {
          first,
          count,
          rowMap: (row) => halfSplitRow(row, headDim),
        });
      }
      expect(target).toEqual(whole);
      expect(back).toEqual([0, 2, 4, 6, 8, 10, 12, 1, 3, 5, 7, 9, 11, 13]);
    }
  });
});

describe('GGUF', () => {
  it.each(golden.map((g) => [g.type, g] as const))('%s: dequantised as gguf-py does, every bit', (type, g) => {
    const want = new Float32Array(decode(g.values).buffer);
    expect(want.length).toBe(g.rows * g.columns);
    expect(dequantizeGguf(type, decode(g.raw), want.length)).toEqual(want);
  });

  it('gguf-py covers every type but Q5_0 and Q5_1', () => {
    expect(golden.map((g) => g.type).sort()).toEqual(ggufTypes.filter((type) => type !== 'Q5_0' && type !== 'Q5_1').sort());
  });

  it('Q5_0 and Q5_1, by hand: fifth bits, low nibbles first', () => {
    const q = Array.from({ length: 32 }, (_, c) => (c * 11) % 32);
    const tail = new Uint8Array(20);
    for (let c = 0; c < 32; c++) {
      tail[c >> 3] |= (q[c] >> 4) << (c & 7);
      tail[4 + (c & 15)] |= (q[c] & 15) << (c < 16 ? 0 : 4);
    }
    expect([...dequantizeGguf('Q5_0', Uint8Array.from([0, 0x38, ...tail]), 32)]).toEqual(q.map((value) => 0.5 * (value - 16)));
    expect([...dequantizeGguf('Q5_1', Uint8Array.from([0, 0x38, 0, 0xc0, ...tail]), 32)]).toEqual(q.map((value) => 0.5 * value - 2));
  });

  it.each(ggufTypes)('%s: repacked by chunks of rows, any row order, any base: the same weights (exact, or within the stated bound)', (type) => {
    const random = new Random(33);
    const [rows, cols] = [26, 512];
    const source = randomBlocks(type, rows * cols, random);
    const values = dequantizeGguf(type, source, rows * cols);
    const layout = ggufFormats[type].layout;
    const rowBytes = ggufBytes(type, 1, cols);
    const shape = { type: layout, rows, cols };
    const target = new Uint8Array(weightBytes(layout, rows, cols)).fill(0xee);
    const map = (row: number): number => (row * 7 + 3) % rows;
    for (let first = 0; first < rows; first += 5) {
      const count = Math.min(5, rows - first);
      repackGguf(target, shape, type, source.subarray(first * rowBytes, (first + count) * rowBytes), { first, count, rowMap: map });
    }
    const got = unpack(layout, target, rows, cols);
    let moved = 0;
    for (let row = 0; row < rows; row++) {
      for (let c = 0; c < cols; c++) {
        const block = values.subarray(row * cols + (c & ~31), row * cols + (c & ~31) + 32);
        const off = Math.abs(got[map(row) * cols + c] - block[c & 31]);
        if (!(off <= allowed(type, block))) expect.fail(`${type} row ${row} column ${c}: ${got[map(row) * cols + c]}, expected ${block[c & 31]}`);
        if (off > 0) moved++;
      }
    }
    if (allowed(type, values.subarray(0, 32)) === 0) expect(moved).toBe(0);

    const half = new Uint8Array(weightBytes(layout, rows - 12, cols)).fill(0xee); // rows 12.. alone
    repackGguf(half, shape, type, source.subarray(12 * rowBytes), { first: 12, count: rows - 12, base: 12 });
    const inOrder = new Uint8Array(weightBytes(layout, rows, cols));
    repackGguf(inOrder, shape, type, source, { first: 0, count: rows });
    expect(half).toEqual(inOrder.subarray(weightBytes(layout, 12, cols)));
    if (layout === 'q8' || layout === 'q4') expect(unpack(layout, inOrder, 28, cols).subarray(rows * cols)).toEqual(new Float32Array(2 * cols)); // padding is zero
  });

  it('halfSplitRow undoes the interleaving of a head: file rows (0, d/2, 1, d/2 + 1, ...) of each head', () => {
    expect([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((row) => halfSplitRow(row, 8))).toEqual([0, 4, 1, 5, 2, 6, 3, 7, 8, 12]);
  });

  it('wrong sizes and targets are told, not written', () => {
    const target = new Uint8Array(weightBytes('q8', 4, 32));
    expect(() => repackGguf(target, { type: 'q8', rows: 4, cols: 32 }, 'Q4_0', new Uint8Array(18), { first: 0, count: 1 })).toThrow(
      'Q4_0 becomes q4, not q8',
    );
    expect(() => repackGguf(target, { type: 'q8', rows: 4, cols: 32 }, 'Q8_0', new Uint8Array(33), { first: 0, count: 1 })).toThrow(
      '1 rows of Q8_0 are 34 bytes, got 33',
    );
    expect(() => repackGguf(target, { type: 'q8', rows: 4, cols: 32 }, 'Q8_0', new Uint8Array(34), { first: 4, count: 1 })).toThrow(
      'row 4 is not between 0 and 3',
    );
    expect(() => ggufBytes('Q4_K', 1, 576)).toThrow('Q4_K needs columns in multiples of 256, got 576');
    expect(() => dequantizeGguf('Q8_0', new Uint8Array(34), 64)).toThrow('64 weights of Q8_0 are 68 bytes, got 34');
    expect(target.every((byte) => byte === 0)).toBe(true);
  });
});
