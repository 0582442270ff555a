// four-rows-f32: four weight rows in f32 times n tokens: all of linear-f32, and linear-f16 once four rows are converted.
//   out[t, r] (+)= bias[r] + sum over c of x[t, c] * w[r, c]
// in   x [n, cols]; w [live, cols], live <= 4; bias [live] or 0; all f32, 4-byte aligned
// out  out f32, token t at out + t * stride bytes
// A sum runs in four lanes (column mod 4; sixteen for a single token), added at the end: within 1e-5 of the f64 sum of |x w|.

// @ts-ignore: decorator
@inline
export function load4(p: usize, live: i32): v128 {
  if (live >= 4) return v128.load(p);
  let v = f32x4.replace_lane(f32x4.splat(0), 0, load<f32>(p));
  if (live > 1) v = f32x4.replace_lane(v, 1, load<f32>(p, 4));
  if (live > 2) v = f32x4.replace_lane(v, 2, load<f32>(p, 8));
  return v;
}

// @ts-ignore: decorator
@inline
export function store4(p: usize, v: v128, live: i32): void {
  if (live >= 4) {
    v128.store(p, v);
    return;
  }
  store<f32>(p, f32x4.extract_lane(v, 0));
  if (live > 1) store<f32>(p, f32x4.extract_lane(v, 1), 4);
  if (live > 2) store<f32>(p, f32x4.extract_lane(v, 2), 8);
}

/** a * b + c; fused in the relaxed build. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** [sum a, sum b, sum c, sum d] */
// @ts-ignore: decorator
@inline
export function sums4f(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(i32x4.shuffle(c, d, 0, 4, 1, 5), i32x4.shuffle(c, d, 2, 6, 3, 7));
  return f32x4.add(i64x2.shuffle(ab, cd, 0, 2), i64x2.shuffle(ab, cd, 1, 3));
}

/** Rows that are not there are read as the first one. */
export function multiplyFourRowsF32(out: usize, stride: usize, x: usize, w: usize, bias: usize, cols: i32, n: i32, live: i32, accumulate: bool): void {
  const rowBytes = <usize>cols * 4, body = <usize>(cols & ~3) * 4;
  const w1: usize = live > 1 ? rowBytes : 0, w2: usize = live > 2 ? rowBytes * 2 : 0, w3: usize = live > 3 ? rowBytes * 3 : 0;
  const base = bias ? load4(bias, live) : f32x4.splat(0);
  let t = 0;
  for (; t + 1 < n; t += 2) {
    let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
    let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
    let p = w;
    for (const end = x + body; x < end; x += 16, p += 16) {
      const u = v128.load(x), v = v128.load(x + rowBytes);
      let r = v128.load(p);
      a0 = madd(r, u, a0);
      b0 = madd(r, v, b0);
      r = v128.load(p + w1);
      a1 = madd(r, u, a1);
      b1 = madd(r, v, b1);
      r = v128.load(p + w2);
      a2 = madd(r, u, a2);
      b2 = madd(r, v, b2);
      r = v128.load(p + w3);
      a3 = madd(r, u, a3);
      b3 = madd(r, v, b3);
    }
    let y0 = f32x4.add(base, sums4f(a0, a1, a2, a3)), y1 = f32x4.add(base, sums4f(b0, b1, b2, b3));
    for (const end = x + rowBytes - body; x < end; x += 4, p += 4) {
      const column = gather4(p, w1, w2, w3);
      y0 = madd(column, v128.load32_splat(x), y0);
      y1 = madd(column, v128.load32_splat(x + rowBytes), y1);
    }
    x += rowBytes;
    store4(out, accumulate ? f32x4.add(load4(out, live), y0) : y0, live);
    store4(out + stride, accumulate ? f32x4.add(load4(out + stride, live), y1) : y1, live);
    out += stride * 2;
  }
  if (t < n) {
    // Weights come once from memory: rows one after the other, as they lie there. Four at a time reached half the bandwidth on rows of 2 KiB,
    // pieces of 2048 columns less still; from rows of 16 KiB on four at a time would be faster (by up to a third).
    let y = f32x4.add(base, sums4f(dotF32(w, x, body), dotF32(w + w1, x, body), dotF32(w + w2, x, body), dotF32(w + w3, x, body)));
    let p = w + body;
    for (let q = x + body; q < x + rowBytes; q += 4, p += 4) y = madd(gather4(p, w1, w2, w3), v128.load32_splat(q), y);
    store4(out, accumulate ? f32x4.add(load4(out, live), y) : y, live);
  }
}

/** Sum over one row's columns of x * w in four lanes. */
function dotF32(w: usize, x: usize, bytes: usize): v128 {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  for (const end = x + (bytes & ~63); x < end; x += 64, w += 64) {
    a0 = madd(v128.load(w), v128.load(x), a0);
    a1 = madd(v128.load(w, 16), v128.load(x, 16), a1);
    a2 = madd(v128.load(w, 32), v128.load(x, 32), a2);
    a3 = madd(v128.load(w, 48), v128.load(x, 48), a3);
  }
  for (const end = x + (bytes & 63); x < end; x += 16, w += 16) a0 = madd(v128.load(w), v128.load(x), a0);
  return f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3));
}

// @ts-ignore: decorator
@inline
function gather4(p: usize, w1: usize, w2: usize, w3: usize): v128 {
  const v = f32x4.replace_lane(f32x4.replace_lane(f32x4.splat(load<f32>(p)), 1, load<f32>(p + w1)), 2, load<f32>(p + w2));
  return f32x4.replace_lane(v, 3, load<f32>(p + w3));
}
