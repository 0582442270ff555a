// linear-q8: out = x W^T (+ bias) (+ out), W in 8-bit blocks.   x, out f32, 4-byte aligned; n <= DECODE_MAX one dot product a row, else int16 tiles
//   w = scale * q, q in -128..127
// in   x [n, cols]; w 64-byte aligned; bias [rows] or 0; cols % 32 == 0, any rows
//      w: rows in groups of 4 (the last one padded), columns in blocks of 32; (g, b) at ((g * cols/32) + b) * 136:
//        0 scales f16 [4]   8 q i8 [4][32]
// out  out [n, rows]
// scratch  linearQ8Scratch(rows, cols, n) bytes, 16-byte aligned
// Error against the exact product with f32 x, per output: decode rounds x to 1/65504 of a block's largest |x|, prefill x to 1/32766 and w to
// 1/2047 of a segment's largest (two roundings: factor and value).
import { load4, store4 } from './four-rows-f32';
import { DECODE_MAX, WEIGHT_RANGE, prefill, prefillScratch, sums2, sums4 } from './four-rows-i16';
import { HALF_UP, halfMask, load4Halves, load4HalvesDown } from './half';
import { BLOCK, SEGMENT, X_RECORD, quantizeBlocks } from './quantize-rows';

// @ts-ignore: decorator
@inline
const RECORD: usize = 136;
/** See linear-q4.ts. */
const PARKED = memory.data(16, 16);

export function linearQ8Scratch(rows: i32, cols: i32, n: i32): usize {
  return n <= DECODE_MAX ? <usize>(n * (cols / BLOCK)) * X_RECORD : prefillScratch(cols, n);
}

export function linearQ8(out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  if (n <= DECODE_MAX) decode(out, x, w, bias, rows, cols, n, accumulate, scratch);
  else prefill(unpackFourRows, RECORD, out, x, w, bias, rows, cols, n, accumulate, scratch);
}

function decode(out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  quantizeBlocks(scratch, x, cols, n, 32752, 1); // 128 * 32752 * 32 < 2^31
  const groupBytes = <usize>(cols / BLOCK) * RECORD, up = f32x4.splat(HALF_UP), signs = halfMask();
  for (let r = 0; r < rows; r += 4, w += groupBytes) {
    const live = rows - r;
    let xr = scratch;
    for (let t = 0; t < n; t++) {
      let sum = f32x4.splat(0);
      for (let p = w; p < w + groupBytes; p += RECORD, xr += X_RECORD) {
        const dots = f32x4.convert_i32x4_s(dotFourRows(p + 8, xr + 16));
        sum = f32x4.add(sum, f32x4.mul(dots, f32x4.mul(load4HalvesDown(p, signs), v128.load32_splat(xr))));
      }
      let y = f32x4.mul(sum, up);
      const o = out + (<usize>t * rows + r) * 4;
      if (bias) y = f32x4.add(y, load4(bias + <usize>r * 4, live));
      store4(o, accumulate ? f32x4.add(load4(o, live), y) : y, live);
    }
  }
}

/** Sums over one block of q * xq, a lane a row. */
// @ts-ignore: decorator
@inline
function dotFourRows(w: usize, x: usize): v128 {
  const x0 = v128.load(x), x1 = v128.load(x, 16), x2 = v128.load(x, 32), x3 = v128.load(x, 48);
  v128.store(PARKED, sums2(dotRow(w, x0, x1, x2, x3), dotRow(w + 32, x0, x1, x2, x3)));
  const cd = sums2(dotRow(w + 64, x0, x1, x2, x3), dotRow(w + 96, x0, x1, x2, x3));
  return sums4(v128.load(PARKED), cd);
}

// @ts-ignore: decorator
@inline
function dotRow(w: usize, x0: v128, x1: v128, x2: v128, x3: v128): v128 {
  return i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(v128.load8x8_s(w), x0), i32x4.dot_i16x8_s(v128.load8x8_s(w, 8), x1)),
    i32x4.add(i32x4.dot_i16x8_s(v128.load8x8_s(w, 16), x2), i32x4.dot_i16x8_s(v128.load8x8_s(w, 24), x3)),
  );
}

/**
 * One group of 4 rows as int16 with one scale per row and segment: wq = round(q * scale / S), S = max(128 |scale|) / 2047 over the segment's blocks.
 * The product is q15mulr: (q * 2^8) * (scale / S * 2^7) / 2^15.
 */
function unpackFourRows(wq: usize, ws: usize, w: usize, cols: i32): void {
  for (let c = 0; c < cols; c += SEGMENT) {
    const end = w + <usize>(min(SEGMENT, cols - c) / BLOCK) * RECORD;
    let top = f32x4.splat(1e-30); // all-zero rows: no division by 0
    for (let p = w; p < end; p += RECORD) top = f32x4.max(top, f32x4.abs(load4Halves(p)));
    const inv = f32x4.div(f32x4.splat((WEIGHT_RANGE - 1) / 128), top); // - 1: the two roundings add up to at most 1
    v128.store(ws, f32x4.mul(top, f32x4.splat(128 / (WEIGHT_RANGE - 1))));
    ws += 16;
    for (; w < end; w += RECORD, wq += BLOCK * 8) {
      const slopes = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(f32x4.mul(load4Halves(w), inv), f32x4.splat(128))));
      unpackRow(wq, w + 8, i16x8.splat(<i16>i32x4.extract_lane(slopes, 0)));
      unpackRow(wq + 16, w + 40, i16x8.splat(<i16>i32x4.extract_lane(slopes, 1)));
      unpackRow(wq + 32, w + 72, i16x8.splat(<i16>i32x4.extract_lane(slopes, 2)));
      unpackRow(wq + 48, w + 104, i16x8.splat(<i16>i32x4.extract_lane(slopes, 3)));
    }
  }
}

// @ts-ignore: decorator
@inline
function unpackRow(wq: usize, w: usize, slope: v128): void {
  v128.store(wq, i16x8.q15mulr_sat_s(i16x8.shl(v128.load8x8_s(w), 8), slope));
  v128.store(wq, i16x8.q15mulr_sat_s(i16x8.shl(v128.load8x8_s(w, 8), 8), slope), 64);
  v128.store(wq, i16x8.q15mulr_sat_s(i16x8.shl(v128.load8x8_s(w, 16), 8), slope), 128);
  v128.store(wq, i16x8.q15mulr_sat_s(i16x8.shl(v128.load8x8_s(w, 24), 8), slope), 192);
}
