// four-rows-i16: the prefill product of linear-q8 and linear-q4, four weight rows at a time, in int16.
//   out[t, r] (+)= bias[r] + sum over segments s of xs[t, s] * ws[s, r] * (sum over the segment's columns of xq[t, c] * wq[r, c])
// in   xq [n, cols] i16, |xq| <= 16383; xs [n, segments] f32: quantizeSegments
//      wq [cols/8, 4, 8] i16 (rows by turns, 8 columns each), |wq| <= 2047; ws [segments, 4] f32: one scale per row and segment of 256
//      columns; both filled by the caller, 16-byte aligned
//      bias [4] f32 or 0
// out  out f32, token t at out + t * stride bytes, the first `live` of 4 rows
// i32 cannot overflow: a lane sums 256 / 4 = 64 products of at most 2047 * 16383, in all 2146304064 < 2^31.
// One scale per row and segment, not per block of 32, keeps the scaling out of the inner loop.
// A step has 8 sums, 6 loads and one product live; V8 has 15 registers. Node 20's V8 moves the loads of a block to its top, so two steps in a row
// spill (10% slower); the exit between them, never taken, keeps them apart. One step alone: equal in Node 20, 10% slower in newer V8.
import { load4, store4, sums4f } from './four-rows-f32';
import { BLOCK, SEGMENT, quantizeSegments } from './quantize-rows';

/** Up to here a dot product per token beats unpacking the rows for all. */
// @ts-ignore: decorator
@inline
export const DECODE_MAX: i32 = 4;
/** xq of one chunk of tokens stay in the second-level cache while all rows pass. */
// @ts-ignore: decorator
@inline
const CHUNK_BYTES: i32 = 512 * 1024;

// @ts-ignore: decorator
@inline
function chunkTokens(cols: i32, n: i32): i32 {
  return min(n, max(64, CHUNK_BYTES / (cols * 2)));
}

/** xq [tokens, cols] i16, xs [tokens, segments] f32, wq [cols/8, 4, 8] i16, ws [segments, 4] f32 */
export function prefillScratch(cols: i32, n: i32): usize {
  const segments = <usize>((cols + SEGMENT - 1) / SEGMENT), tokens = <usize>chunkTokens(cols, n);
  return tokens * cols * 2 + ((tokens * segments * 4 + 15) & ~15) + <usize>cols * 8 + segments * 16;
}

/** The whole product: x [n, cols] f32, w in groups of 4 rows of `record` bytes per 32 columns, out [n, rows]. `unpack` fills wq and ws from one group. */
export function prefill(
  unpack: (wq: usize, ws: usize, w: usize, cols: i32) => void, record: usize,
  out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize,
): void {
  const segments = <usize>((cols + SEGMENT - 1) / SEGMENT), groupBytes = <usize>(cols / BLOCK) * record, chunk = chunkTokens(cols, n);
  const xs = scratch + <usize>(chunk * cols) * 2, wq = xs + ((<usize>chunk * segments * 4 + 15) & ~15), ws = wq + <usize>cols * 8;
  for (let t = 0; t < n; t += chunk) {
    const tokens = min(chunk, n - t);
    quantizeSegments(scratch, xs, x + <usize>t * cols * 4, cols, tokens);
    for (let r = 0; r < rows; r += 4) {
      unpack(wq, ws, w + <usize>(r >> 2) * groupBytes, cols);
      const o = out + (<usize>t * rows + r) * 4;
      multiplyFourRows(o, <usize>rows * 4, scratch, xs, wq, ws, bias ? bias + <usize>r * 4 : 0, cols, tokens, rows - r, accumulate);
    }
  }
}

/** |wq| <= WEIGHT_RANGE. */
// @ts-ignore: decorator
@inline
export const WEIGHT_RANGE: f32 = 2047;

/** [a0 + a2, b0 + b2, a1 + a3, b1 + b3] */
// @ts-ignore: decorator
@inline
export function sums2(a: v128, b: v128): v128 {
  return i32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7));
}

/** [sum a, sum b, sum c, sum d] of sums2(a, b), sums2(c, d) */
// @ts-ignore: decorator
@inline
export function sums4(ab: v128, cd: v128): v128 {
  return i32x4.add(i64x2.shuffle(ab, cd, 0, 2), i64x2.shuffle(ab, cd, 1, 3));
}

/** The four lanes together may pass 2^31, so they are added as f32. */
// @ts-ignore: decorator
@inline
function floatSums4(a: v128, b: v128, c: v128, d: v128): v128 {
  return sums4f(f32x4.convert_i32x4_s(a), f32x4.convert_i32x4_s(b), f32x4.convert_i32x4_s(c), f32x4.convert_i32x4_s(d));
}

function multiplyFourRows(
  out: usize, stride: usize, xq: usize, xs: usize, wq: usize, ws: usize, bias: usize, cols: i32, n: i32, live: i32, accumulate: bool,
): void {
  const rowBytes = <usize>cols * 2, segments = <usize>((cols + SEGMENT - 1) / SEGMENT);
  const base = bias ? load4(bias, live) : f32x4.splat(0);
  for (let t = 0; t < n; t += 2) {
    const second: bool = t + 1 < n;
    const other: usize = second ? rowBytes : 0, otherScale: usize = second ? segments * 4 : 0;
    let sum0 = base, sum1 = base;
    let x0 = xq, w = wq;
    const end = xq + rowBytes;
    for (let s: usize = 0; s < segments; s++) {
      const stop = min(end, x0 + SEGMENT * 2);
      let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
      let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
      let x1 = x0 + other;
      while (true) {
        {
          const u = v128.load(x0), v = v128.load(x1);
          const w0 = v128.load(w), w1 = v128.load(w, 16), w2 = v128.load(w, 32), w3 = v128.load(w, 48);
          a0 = i32x4.add(a0, i32x4.dot_i16x8_s(w0, u));
          b0 = i32x4.add(b0, i32x4.dot_i16x8_s(w0, v));
          a1 = i32x4.add(a1, i32x4.dot_i16x8_s(w1, u));
          b1 = i32x4.add(b1, i32x4.dot_i16x8_s(w1, v));
          a2 = i32x4.add(a2, i32x4.dot_i16x8_s(w2, u));
          b2 = i32x4.add(b2, i32x4.dot_i16x8_s(w2, v));
          a3 = i32x4.add(a3, i32x4.dot_i16x8_s(w3, u));
          b3 = i32x4.add(b3, i32x4.dot_i16x8_s(w3, v));
        }
        x0 += 16;
        x1 += 16;
        w += 64;
        if (x0 >= stop) break; // never here: 32 columns are four steps
        {
          const u = v128.load(x0), v = v128.load(x1);
          const w0 = v128.load(w), w1 = v128.load(w, 16), w2 = v128.load(w, 32), w3 = v128.load(w, 48);
          a0 = i32x4.add(a0, i32x4.dot_i16x8_s(w0, u));
          b0 = i32x4.add(b0, i32x4.dot_i16x8_s(w0, v));
          a1 = i32x4.add(a1, i32x4.dot_i16x8_s(w1, u));
          b1 = i32x4.add(b1, i32x4.dot_i16x8_s(w1, v));
          a2 = i32x4.add(a2, i32x4.dot_i16x8_s(w2, u));
          b2 = i32x4.add(b2, i32x4.dot_i16x8_s(w2, v));
          a3 = i32x4.add(a3, i32x4.dot_i16x8_s(w3, u));
          b3 = i32x4.add(b3, i32x4.dot_i16x8_s(w3, v));
        }
        x0 += 16;
        x1 += 16;
        w += 64;
        if (x0 >= stop) break;
      }
      const scales = v128.load(ws + s * 16);
      sum0 = f32x4.add(sum0, f32x4.mul(floatSums4(a0, a1, a2, a3), f32x4.mul(scales, v128.load32_splat(xs + s * 4))));
      sum1 = f32x4.add(sum1, f32x4.mul(floatSums4(b0, b1, b2, b3), f32x4.mul(scales, v128.load32_splat(xs + otherScale + s * 4))));
    }
    store4(out, accumulate ? f32x4.add(load4(out, live), sum0) : sum0, live);
    if (second) store4(out + stride, accumulate ? f32x4.add(load4(out + stride, live), sum1) : sum1, live);
    out += stride * 2;
    xq += rowBytes * 2;
    xs += segments * 8;
  }
}
