// rms-norm: out[r, c] = x[r, c] / sqrt(mean over c of x[r, c]^2 + eps) * weight[c]
// in   x [rows, cols] f32    weight [cols] f32    (4-byte aligned)
// out  out [rows, cols] f32; may be x
// The sum of squares is f64: two pairs of lanes for the vector part, then the tail; 1/sqrt is f64, rounded to f32 once.

export function rmsNorm(out: usize, x: usize, weight: usize, rows: i32, cols: i32, eps: f32): void {
  const vectors = cols & ~3;
  for (let r = 0; r < rows; r++) {
    let low = f64x2.splat(0);
    let high = f64x2.splat(0);
    let c = 0;
    for (; c < vectors; c += 4) {
      const v = v128.load(x + (<usize>c << 2));
      const a = f64x2.promote_low_f32x4(v);
      const b = f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0));
      low = f64x2.add(low, f64x2.mul(a, a));
      high = f64x2.add(high, f64x2.mul(b, b));
    }
    low = f64x2.add(low, high);
    let squares = f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1);
    for (; c < cols; c++) {
      const v = <f64>load<f32>(x + (<usize>c << 2));
      squares += v * v;
    }
    const inverse = <f32>(1.0 / Math.sqrt(squares / <f64>cols + <f64>eps));
    const inverses = f32x4.splat(inverse);
    for (c = 0; c < vectors; c += 4) {
      const at = <usize>c << 2;
      v128.store(out + at, f32x4.mul(f32x4.mul(v128.load(x + at), inverses), v128.load(weight + at)));
    }
    for (; c < cols; c++) {
      const at = <usize>c << 2;
      store<f32>(out + at, load<f32>(x + at) * inverse * load<f32>(weight + at));
    }
    x += <usize>cols << 2;
    out += <usize>cols << 2;
  }
}
