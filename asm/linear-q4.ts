// linear-q4: out = x W^T (+ bias) (+ out), W in 4-bit blocks.   x, out f32, 4-byte aligned; n <= DECODE_MAX one dot product a row, else int16 tiles
//   w = scale * q + min, q in 0..15
// in   x [n, cols]; w 64-byte aligned; bias [rows] or 0; cols % 32 == 0, any rows
//      w: rows in groups of 4 (the last one padded), columns in blocks of 32; (g, b) at ((g * cols/32) + b) * 80:
//        0 scales f16 [4]   8 mins f16 [4]   16 nibbles [4][16 bytes]
//        a row's 16 bytes are u16 lanes j = 0..7: column j in bits 0-3, 8+j in 4-7, 16+j in 8-11, 24+j in 12-15
// out  out [n, rows]
// scratch  linearQ4Scratch(rows, cols, n) bytes, 16-byte aligned
// Error against the exact product with f32 x, per output: decode rounds x to 1/4094 of a block's largest |x| (relaxed build 1/254), prefill x to 1/32766 and w to
// 1/2047 of a segment's largest (two roundings: slope and value).
import { load4, store4 } from './four-rows-f32';
import { DECODE_MAX, WEIGHT_RANGE, prefill, prefillScratch, sums2, sums4 } from './four-rows-i16';
import { HALF_UP, halfMask, load4Halves, load4HalvesDown } from './half';
import { BLOCK, SEGMENT, X_BYTES_RECORD, X_RECORD, quantizeBlocks, quantizeBytes } from './quantize-rows';

// @ts-ignore: decorator
@inline
const RECORD: usize = 80;
/** In memory, not in the code: half.ts tells why. The even nibble of a u16's low byte and the odd one in place; relaxed build: every byte's even nibble, and ones. */
const MASKS = memory.data<u16>([15, 15, 15, 15, 15, 15, 15, 15, 240, 240, 240, 240, 240, 240, 240, 240], 16);
const BYTE_MASKS = memory.data<u16>([0xf0f, 0xf0f, 0xf0f, 0xf0f, 0xf0f, 0xf0f, 0xf0f, 0xf0f, 1, 1, 1, 1, 1, 1, 1, 1], 16);
/** Two rows' sums wait here for the other two: V8 up to Node 20 would else mix the work of all four rows and spill (10% slower). */
const PARKED = memory.data(16, 16);

export function linearQ4Scratch(rows: i32, cols: i32, n: i32): usize {
  return n <= DECODE_MAX ? <usize>(n * (cols / BLOCK)) * X_RECORD : prefillScratch(cols, n);
}

export function linearQ4(out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  if (n <= DECODE_MAX) decode(out, x, w, bias, rows, cols, n, accumulate, scratch);
  else prefill(unpackFourRows, RECORD, out, x, w, bias, rows, cols, n, accumulate, scratch);
}

function decode(out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  if (ASC_FEATURE_RELAXED_SIMD) quantizeBytes(scratch, x, cols, n);
  else quantizeBlocks(scratch, x, cols, n, 2047, 16);
  const groupBytes = <usize>(cols / BLOCK) * RECORD, up = f32x4.splat(HALF_UP);
  const masks = ASC_FEATURE_RELAXED_SIMD ? BYTE_MASKS : MASKS, mask0 = v128.load(masks), mask1 = v128.load(masks, 16), signs = halfMask();
  for (let r = 0; r < rows; r += 4, w += groupBytes) {
    const live = rows - r;
    let xr = scratch;
    for (let t = 0; t < n; t++) {
      let sum = f32x4.splat(0), mins = f32x4.splat(0);
      for (let p = w; p < w + groupBytes; p += RECORD) {
        const dots = ASC_FEATURE_RELAXED_SIMD ? dotFourRowsOfBytes(p + 16, xr + 16, mask0, mask1) : dotFourRows(p + 16, xr + 16, mask0, mask1);
        sum = f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(dots), f32x4.mul(load4HalvesDown(p, signs), v128.load32_splat(xr))));
        mins = f32x4.add(mins, f32x4.mul(load4HalvesDown(p + 8, signs), v128.load32_splat(xr, 4)));
        xr += ASC_FEATURE_RELAXED_SIMD ? X_BYTES_RECORD : X_RECORD;
      }
      let y = f32x4.mul(f32x4.add(sum, mins), up);
      const o = out + (<usize>t * rows + r) * 4;
      if (bias) y = f32x4.add(y, load4(bias + <usize>r * 4, live));
      store4(o, accumulate ? f32x4.add(load4(o, live), y) : y, live);
    }
  }
}

/** Sums over one block of q * xq, a lane a row. */
// @ts-ignore: decorator
@inline
function dotFourRows(w: usize, x: usize, low: v128, high: v128): v128 {
  const x0 = v128.load(x), x1 = v128.load(x, 16), x2 = v128.load(x, 32), x3 = v128.load(x, 48);
  v128.store(PARKED, sums2(dotRow(w, x0, x1, x2, x3, low, high), dotRow(w + 16, x0, x1, x2, x3, low, high)));
  const cd = sums2(dotRow(w + 32, x0, x1, x2, x3, low, high), dotRow(w + 48, x0, x1, x2, x3, low, high));
  return sums4(v128.load(PARKED), cd);
}

/** The odd nibbles of a byte stay in place, worth 16 times as much: their xq come in units of 16. The sum is below 15 * 32752 * 32 < 2^24: exact in f32. */
// @ts-ignore: decorator
@inline
function dotRow(w: usize, x0: v128, x1: v128, x2: v128, x3: v128, low: v128, high: v128): v128 {
  const q = v128.load(w), q2 = i16x8.shr_u(q, 8);
  return i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(v128.and(q, low), x0), i32x4.dot_i16x8_s(v128.and(q, high), x1)),
    i32x4.add(i32x4.dot_i16x8_s(v128.and(q2, low), x2), i32x4.dot_i16x8_s(v128.and(q2, high), x3)),
  );
}

/**
 * Relaxed SIMD: bytes of xq times nibbles as the 7-bit operand. Four products of at most 15 * 127 fit an i16, so every engine gives the same.
 * The dot product into i32 is three instructions on x86 without VNNI: 3% slower there.
 */
// @ts-ignore: decorator
@inline
function dotFourRowsOfBytes(w: usize, x: usize, nibbles: v128, ones: v128): v128 {
  const x0 = v128.load(x), x1 = v128.load(x, 16);
  const ab = sums2(dotRowOfBytes(w, x0, x1, nibbles, ones), dotRowOfBytes(w + 16, x0, x1, nibbles, ones));
  return sums4(ab, sums2(dotRowOfBytes(w + 32, x0, x1, nibbles, ones), dotRowOfBytes(w + 48, x0, x1, nibbles, ones)));
}

// @ts-ignore: decorator
@inline
function dotRowOfBytes(w: usize, x0: v128, x1: v128, nibbles: v128, ones: v128): v128 {
  const q = v128.load(w);
  const pairs = i16x8.add(v128.relaxed_dot<i16>(x0, v128.and(q, nibbles)), v128.relaxed_dot<i16>(x1, v128.and(i16x8.shr_u(q, 4), nibbles)));
  return i32x4.dot_i16x8_s(pairs, ones);
}

/**
 * One group of 4 rows as int16 with one scale per row and segment: wq = round(q * scale / S) + round(min / S), S = max(|min|, |15 scale + min|) / 2047
 * over the segment's blocks. The product is q15mulr: (q * 2^11) * (scale / S * 2^4) / 2^15.
 */
function unpackFourRows(wq: usize, ws: usize, w: usize, cols: i32): void {
  for (let c = 0; c < cols; c += SEGMENT) {
    const end = w + <usize>(min(SEGMENT, cols - c) / BLOCK) * RECORD;
    let top = f32x4.splat(0);
    for (let p = w; p < end; p += RECORD) {
      const scale = load4Halves(p), low = load4Halves(p + 8);
      top = f32x4.max(top, f32x4.max(f32x4.abs(low), f32x4.abs(f32x4.add(low, f32x4.mul(scale, f32x4.splat(15))))));
    }
    top = f32x4.max(top, f32x4.splat(1e-30)); // all-zero rows: no division by 0
    const inv = f32x4.div(f32x4.splat(WEIGHT_RANGE - 1), top); // - 1: the two roundings add up to at most 1
    v128.store(ws, f32x4.mul(top, f32x4.splat(1 / (WEIGHT_RANGE - 1))));
    ws += 16;
    for (; w < end; w += RECORD, wq += BLOCK * 8) {
      const slopes = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(f32x4.mul(load4Halves(w), inv), f32x4.splat(16))));
      const lows = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(load4Halves(w + 8), inv)));
      unpackRow(wq, w + 16, i16x8.splat(<i16>i32x4.extract_lane(slopes, 0)), i16x8.splat(<i16>i32x4.extract_lane(lows, 0)));
      unpackRow(wq + 16, w + 32, i16x8.splat(<i16>i32x4.extract_lane(slopes, 1)), i16x8.splat(<i16>i32x4.extract_lane(lows, 1)));
      unpackRow(wq + 32, w + 48, i16x8.splat(<i16>i32x4.extract_lane(slopes, 2)), i16x8.splat(<i16>i32x4.extract_lane(lows, 2)));
      unpackRow(wq + 48, w + 64, i16x8.splat(<i16>i32x4.extract_lane(slopes, 3)), i16x8.splat(<i16>i32x4.extract_lane(lows, 3)));
    }
  }
}

// @ts-ignore: decorator
@inline
function unpackRow(wq: usize, w: usize, slope: v128, low: v128): void {
  const field = i16x8.splat(0x7800), q = v128.load(w);
  v128.store(wq, i16x8.add(i16x8.q15mulr_sat_s(v128.and(i16x8.shl(q, 11), field), slope), low));
  v128.store(wq, i16x8.add(i16x8.q15mulr_sat_s(v128.and(i16x8.shl(q, 7), field), slope), low), 64);
  v128.store(wq, i16x8.add(i16x8.q15mulr_sat_s(v128.and(i16x8.shl(q, 3), field), slope), low), 128);
  v128.store(wq, i16x8.add(i16x8.q15mulr_sat_s(v128.and(i16x8.shr_u(q, 1), field), slope), low), 192);
}
