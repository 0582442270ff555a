// linear-f16: out = x W^T (+ bias) (+ out), W in rows of f16 or bf16; x, out, bias f32, 4-byte aligned
// in   x [n, cols]; w [rows, cols], 2-byte aligned; bias [rows] or 0; any sizes
// out  out [n, rows]
// scratch  linearF16Scratch, linearBf16Scratch (rows, cols, n) bytes, 16-byte aligned: x times 2^56 (one token), or 4 rows as f32
// The weights become f32 exactly; sums as in linear-f32: within 1e-5 of the f64 sum of |x w|.
import { load4, madd, multiplyFourRowsF32, store4, sums4f } from './four-rows-f32';
import { HALF_UP, halfMask, load4Bf16, load4Halves, load4HalvesDown, loadBf16, loadHalf } from './half';

export function linearF16Scratch(rows: i32, cols: i32, n: i32): usize {
  return <usize>cols * (n == 1 ? 4 : 16);
}

export function linearBf16Scratch(rows: i32, cols: i32, n: i32): usize {
  return n == 1 ? 0 : <usize>cols * 16;
}

export function linearF16(out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  if (n == 1) {
    for (let c: usize = 0; c < <usize>(cols & ~3) * 4; c += 16) v128.store(scratch + c, f32x4.mul(v128.load(x + c), f32x4.splat(HALF_UP)));
    oneToken(false, out, x, scratch, w, bias, rows, cols, accumulate);
  } else manyTokens(false, out, x, w, bias, rows, cols, n, accumulate, scratch);
}

export function linearBf16(out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  if (n == 1) oneToken(true, out, x, x, w, bias, rows, cols, accumulate);
  else manyTokens(true, out, x, w, bias, rows, cols, n, accumulate, scratch);
}

// @ts-ignore: decorator
@inline
function loadOne(bf16: bool, p: usize): f32 {
  return bf16 ? loadBf16(p) : loadHalf(p);
}

/** bf16, or f16 times 2^-112. */
// @ts-ignore: decorator
@inline
function load4Raw(bf16: bool, p: usize, mask: v128): v128 {
  return bf16 ? load4Bf16(p) : load4HalvesDown(p, mask);
}

/** Sum over one row's columns of x * w in four lanes; `bytes` are of x. */
function dotF16(w: usize, x: usize, bytes: usize): v128 {
  return dot(false, w, x, bytes);
}

function dotBf16(w: usize, x: usize, bytes: usize): v128 {
  return dot(true, w, x, bytes);
}

// @ts-ignore: decorator
@inline
function dot(bf16: bool, w: usize, x: usize, bytes: usize): v128 {
  const mask = halfMask();
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  for (const end = x + (bytes & ~63); x < end; x += 64, w += 32) {
    a0 = madd(load4Raw(bf16, w, mask), v128.load(x), a0);
    a1 = madd(load4Raw(bf16, w + 8, mask), v128.load(x, 16), a1);
    a2 = madd(load4Raw(bf16, w + 16, mask), v128.load(x, 32), a2);
    a3 = madd(load4Raw(bf16, w + 24, mask), v128.load(x, 48), a3);
  }
  for (const end = x + (bytes & 63); x < end; x += 16, w += 8) a0 = madd(load4Raw(bf16, w, mask), v128.load(x), a0);
  return f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3));
}

/** x4 is x, times 2^56 for f16; the last cols % 4 columns are read from x. */
// @ts-ignore: decorator
@inline
function oneToken(bf16: bool, out: usize, x: usize, x4: usize, w: usize, bias: usize, rows: i32, cols: i32, accumulate: bool): void {
  const rowBytes = <usize>cols * 2, body = <usize>(cols & ~3) * 4;
  for (let r = 0; r < rows; r += 4) {
    const live = min(4, rows - r);
    const w1: usize = live > 1 ? rowBytes : 0, w2: usize = live > 2 ? rowBytes * 2 : 0, w3: usize = live > 3 ? rowBytes * 3 : 0;
    let p = w + <usize>r * rowBytes;
    const s0 = bf16 ? dotBf16(p, x4, body) : dotF16(p, x4, body), s1 = bf16 ? dotBf16(p + w1, x4, body) : dotF16(p + w1, x4, body);
    const s2 = bf16 ? dotBf16(p + w2, x4, body) : dotF16(p + w2, x4, body), s3 = bf16 ? dotBf16(p + w3, x4, body) : dotF16(p + w3, x4, body);
    let y = sums4f(s0, s1, s2, s3);
    p += body >> 1;
    if (!bf16) y = f32x4.mul(y, f32x4.splat(HALF_UP));
    for (let q = x + body; q < x + <usize>cols * 4; q += 4, p += 2) {
      let column = f32x4.splat(loadOne(bf16, p));
      column = f32x4.replace_lane(column, 1, loadOne(bf16, p + w1));
      column = f32x4.replace_lane(column, 2, loadOne(bf16, p + w2));
      column = f32x4.replace_lane(column, 3, loadOne(bf16, p + w3));
      y = madd(column, v128.load32_splat(q), y);
    }
    const o = out + <usize>r * 4;
    if (bias) y = f32x4.add(y, load4(bias + <usize>r * 4, live));
    store4(o, accumulate ? f32x4.add(load4(o, live), y) : y, live);
  }
}

// @ts-ignore: decorator
@inline
function manyTokens(bf16: bool, out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  for (let r = 0; r < rows; r += 4) {
    const live = min(4, rows - r), count = live * cols, at = <usize>r * 4;
    let to = scratch, i = 0;
    for (; i < (count & ~3); i += 4, w += 8, to += 16) v128.store(to, bf16 ? load4Bf16(w) : load4Halves(w));
    for (; i < count; i++, w += 2, to += 4) store<f32>(to, loadOne(bf16, w));
    multiplyFourRowsF32(out + at, <usize>rows * 4, x, scratch, bias ? bias + at : 0, cols, n, live, accumulate);
  }
}
