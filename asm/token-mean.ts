// token-mean: the mean vector of every head.
//   out[h] = (1 / n) sum over t of x[t,h]
// in    x [n, H, d] f32      out  [H, d] f32
// Sums are f64, t ascending.

export function tokenMean(out: usize, x: usize, n: i32, heads: i32, headDim: i32): void {
  const columns = heads * headDim; // heads lie side by side: one long row
  const stride = (<usize>columns) << 2;
  let c = 0;
  for (; c + 16 <= columns; c += 16) sixteen(out + ((<usize>c) << 2), x + ((<usize>c) << 2), stride, n);
  for (; c < columns; c++) {
    let at = x + ((<usize>c) << 2);
    let sum: f64 = 0;
    for (let t = 0; t < n; t++, at += stride) sum += <f64>load<f32>(at);
    store<f32>(out + ((<usize>c) << 2), <f32>(sum / <f64>n));
  }
}

/** Of one cache line's columns. */
function sixteen(out: usize, x: usize, stride: usize, n: i32): void {
  let a = f64x2.splat(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  for (let t = 0; t < n; t++, x += stride) {
    a = f64x2.add(a, f64x2.promote_low_f32x4(v128.load64_zero(x)));
    b = f64x2.add(b, f64x2.promote_low_f32x4(v128.load64_zero(x, 8)));
    c = f64x2.add(c, f64x2.promote_low_f32x4(v128.load64_zero(x, 16)));
    d = f64x2.add(d, f64x2.promote_low_f32x4(v128.load64_zero(x, 24)));
    e = f64x2.add(e, f64x2.promote_low_f32x4(v128.load64_zero(x, 32)));
    f = f64x2.add(f, f64x2.promote_low_f32x4(v128.load64_zero(x, 40)));
    g = f64x2.add(g, f64x2.promote_low_f32x4(v128.load64_zero(x, 48)));
    h = f64x2.add(h, f64x2.promote_low_f32x4(v128.load64_zero(x, 56)));
  }
  const count = f64x2.splat(<f64>n);
  v128.store(out, four(f64x2.div(a, count), f64x2.div(b, count)));
  v128.store(out, four(f64x2.div(c, count), f64x2.div(d, count)), 16);
  v128.store(out, four(f64x2.div(e, count), f64x2.div(f, count)), 32);
  v128.store(out, four(f64x2.div(g, count), f64x2.div(h, count)), 48);
}

// @ts-ignore: decorator
@inline function four(low: v128, high: v128): v128 {
  return i64x2.shuffle(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2);
}
