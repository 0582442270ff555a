// weigh: each row times a row of weights, which several rows may share.
//   out[r,j] = (x[r,j] + epsilon) * w[floor(r * wRows / rows), j]
// in    x [rows, n] f32    w [wRows, n] f32, rows a multiple of wRows      out  [rows, n] f32, may be x

export function weigh(out: usize, x: usize, w: usize, rows: i32, wRows: i32, n: i32, epsilon: f32): void {
  const stride = (<usize>n) << 2;
  const vectorEnd = (<usize>(n & ~3)) << 2;
  for (let r = 0; r < rows; r++) {
    const from = x + <usize>r * stride;
    const by = w + <usize>(r / (rows / wRows)) * stride;
    const to = out + <usize>r * stride;
    let j: usize = 0;
    for (; j < vectorEnd; j += 16) v128.store(to + j, f32x4.mul(f32x4.add(v128.load(from + j), f32x4.splat(epsilon)), v128.load(by + j)));
    for (; j < stride; j += 4) store<f32>(to + j, (load<f32>(from + j) + epsilon) * load<f32>(by + j));
  }
}
