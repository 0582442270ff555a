// norm-scale: each head's rows times the largest L1 norm of its vectors.
//   out[h,j] = x[h,j] * max over t < count of sum over c of |v[t,h,c]|
// in    x [H, n] f32    v [>= count, H, d] f32      out  [H, n] f32, may be x

export function normScale(out: usize, x: usize, v: usize, n: i32, count: i32, kvHeads: i32, headDim: i32): void {
  const stride = (<usize>kvHeads * headDim) << 2;
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  for (let h = 0; h < kvHeads; h++) {
    let most: f32 = 0;
    for (let t = 0; t < count; t++) {
      const row = v + <usize>t * stride + ((<usize>h * headDim) << 2);
      let sums = f32x4.splat(0);
      let c: usize = 0;
      for (; c < vectorEnd; c += 16) sums = f32x4.add(sums, f32x4.abs(v128.load(row + c)));
      let sum = f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 2) + (f32x4.extract_lane(sums, 1) + f32x4.extract_lane(sums, 3));
      for (; c < allEnd; c += 4) sum += abs<f32>(load<f32>(row + c));
      most = max(most, sum);
    }
    const offset = (<usize>h * n) << 2;
    for (let j = 0; j < n; j++) {
      const at = offset + ((<usize>j) << 2);
      store<f32>(out + at, load<f32>(x + at) * most);
    }
  }
}
