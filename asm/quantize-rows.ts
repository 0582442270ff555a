// quantize-rows: activations for the q8 and q4 products, as int16 with one scale per block (decode) or segment (prefill).
//   xq = round(x / scale),   scale = max|x| / range.   16 bits cost i32x4.dot_i16x8_s nothing over 8.
// in   x [n, cols] f32, cols % 32 == 0
// out  quantizeBlocks    n * cols/32 records of 80 bytes, 16-byte aligned:
//                          0 scale f32 * 2^56   4 sum of the block's xq * scale, f32 * 2^56   8 unused   16 xq i16 [32]
//                        2^56 is half of what undoes the f16 shortcut of half.ts.
//      quantizeSegments  xq [n, cols] i16, scales [n, ceil(cols/256)] f32; a segment is 256 columns, the last one may be shorter
// A row with inf or NaN gives a scale of inf or NaN and so a result of NaN; it never turns into a number.
import { HALF_UP } from './half';

// @ts-ignore: decorator
@inline
export const BLOCK: i32 = 32;
// @ts-ignore: decorator
@inline
export const X_RECORD: i32 = 80;
// @ts-ignore: decorator
@inline
export const X_BYTES_RECORD: i32 = 48;
// @ts-ignore: decorator
@inline
export const SEGMENT: i32 = 256;
/** Why this much: four-rows-i16.ts. */
// @ts-ignore: decorator
@inline
export const SEGMENT_RANGE: f32 = 16383;
/** Below this a block counts as zero; range / TINY must stay finite. */
// @ts-ignore: decorator
@inline
const TINY: f32 = 1e-30;

// @ts-ignore: decorator
@inline
function maxLane(v: v128): f32 {
  return max(max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)), max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)));
}

/** round(x * inv) of 8 values as i16. |x * inv| < 2^22, so adding 1.5 * 2^23 leaves the integer in the low bits (cheaper than trunc_sat on x86). */
// @ts-ignore: decorator
@inline
export function round8(a: v128, b: v128, inv: v128): v128 {
  const magic = f32x4.splat(12582912), bits = i32x4.splat(0x4b400000);
  return i16x8.narrow_i32x4_s(i32x4.sub(f32x4.add(f32x4.mul(a, inv), magic), bits), i32x4.sub(f32x4.add(f32x4.mul(b, inv), magic), bits));
}

// @ts-ignore: decorator
@inline
function maxOf32(x: usize): f32 {
  const a = f32x4.max(f32x4.abs(v128.load(x)), f32x4.abs(v128.load(x, 16)));
  const b = f32x4.max(f32x4.abs(v128.load(x, 32)), f32x4.abs(v128.load(x, 48)));
  const c = f32x4.max(f32x4.abs(v128.load(x, 64)), f32x4.abs(v128.load(x, 80)));
  const d = f32x4.max(f32x4.abs(v128.load(x, 96)), f32x4.abs(v128.load(x, 112)));
  return maxLane(f32x4.max(f32x4.max(a, b), f32x4.max(c, d)));
}

/**
 * `even` is the weight of one unit in columns 0-7 and 16-23 of a block, `range` the largest |xq| in columns 8-15 and 24-31:
 * with even = 16 the former carry xq = round(16 x / scale). q4 reads the odd groups' nibbles in place, worth 16 times as much.
 */
export function quantizeBlocks(out: usize, x: usize, cols: i32, n: i32, range: f32, even: f32): void {
  const end = out + <usize>(n * (cols / BLOCK)) * X_RECORD;
  const ones = i16x8.splat(1);
  for (; out < end; out += X_RECORD, x += BLOCK * 4) {
    const top = maxOf32(x);
    const inv: f32 = top > TINY ? range / top : 0;
    const oddInv = f32x4.splat(inv), evenInv = f32x4.splat(inv * even);
    const q0 = round8(v128.load(x), v128.load(x, 16), evenInv);
    const q1 = round8(v128.load(x, 32), v128.load(x, 48), oddInv);
    const q2 = round8(v128.load(x, 64), v128.load(x, 80), evenInv);
    const q3 = round8(v128.load(x, 96), v128.load(x, 112), oddInv);
    v128.store(out, q0, 16);
    v128.store(out, q1, 32);
    v128.store(out, q2, 48);
    v128.store(out, q3, 64);
    const evens = f32x4.convert_i32x4_s(i32x4.add(i32x4.dot_i16x8_s(q0, ones), i32x4.dot_i16x8_s(q2, ones)));
    const odds = f32x4.convert_i32x4_s(i32x4.add(i32x4.dot_i16x8_s(q1, ones), i32x4.dot_i16x8_s(q3, ones)));
    const lanes = f32x4.add(evens, f32x4.mul(odds, f32x4.splat(even))); // integers below 2^21: exact
    const sum = f32x4.extract_lane(lanes, 0) + f32x4.extract_lane(lanes, 1) + f32x4.extract_lane(lanes, 2) + f32x4.extract_lane(lanes, 3);
    const scale = (top / (range * even)) * HALF_UP;
    store<f32>(out, scale);
    store<f32>(out, sum * scale, 4);
  }
}

/**
 * For i16x8.relaxed_dot_i8x16_i7x16_s with q4's bytes in place: |xq| <= 127, records of 48 bytes, 16-byte aligned:
 *   0 scale, 4 sum as above   8 unused   16 xq i8: columns 0, 16, 1, 17, ... 7, 23 (low nibbles)   32 columns 8, 24, ... 15, 31 (high nibbles)
 */
export function quantizeBytes(out: usize, x: usize, cols: i32, n: i32): void {
  const end = out + <usize>(n * (cols / BLOCK)) * X_BYTES_RECORD;
  const ones = i16x8.splat(1);
  for (; out < end; out += X_BYTES_RECORD, x += BLOCK * 4) {
    const top = maxOf32(x);
    const inv = f32x4.splat(top > TINY ? 127 / top : 0);
    const q0 = round8(v128.load(x), v128.load(x, 16), inv);
    const q1 = round8(v128.load(x, 32), v128.load(x, 48), inv);
    const q2 = round8(v128.load(x, 64), v128.load(x, 80), inv);
    const q3 = round8(v128.load(x, 96), v128.load(x, 112), inv);
    const low = i16x8.splat(255);
    v128.store(out, v128.or(v128.and(q0, low), i16x8.shl(q2, 8)), 16);
    v128.store(out, v128.or(v128.and(q1, low), i16x8.shl(q3, 8)), 32);
    const lanes = i32x4.dot_i16x8_s(i16x8.add(i16x8.add(q0, q1), i16x8.add(q2, q3)), ones);
    const sum = i32x4.extract_lane(lanes, 0) + i32x4.extract_lane(lanes, 1) + i32x4.extract_lane(lanes, 2) + i32x4.extract_lane(lanes, 3);
    const scale = (top / 127) * HALF_UP;
    store<f32>(out, scale);
    store<f32>(out, <f32>sum * scale, 4);
  }
}

export function quantizeSegments(xq: usize, scales: usize, x: usize, cols: i32, n: i32): void {
  for (let t = 0; t < n; t++) {
    for (let c = 0; c < cols; c += SEGMENT) {
      const bytes = <usize>min(SEGMENT, cols - c) * 4;
      let top: f32 = 0;
      for (let k: usize = 0; k < bytes; k += BLOCK * 4) top = max(top, maxOf32(x + k));
      const inv = f32x4.splat(top > TINY ? SEGMENT_RANGE / top : 0);
      for (let k: usize = 0; k < bytes; k += 32) v128.store(xq + (k >> 1), round8(v128.load(x + k), v128.load(x + k, 16), inv));
      store<f32>(scales, top / SEGMENT_RANGE);
      x += bytes;
      xq += bytes >> 1;
      scales += 4;
    }
  }
}
