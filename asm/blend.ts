// blend: two tensors, weighted and added.
//   out[i] = a * x[i] + b * y[i]
// in    x, y [count] f32      out  [count] f32, may be x or y

export function blend(out: usize, x: usize, y: usize, a: f32, b: f32, count: i32): void {
  const vectorEnd = (<usize>(count & ~3)) << 2;
  const end = (<usize>count) << 2;
  let i: usize = 0;
  for (; i < vectorEnd; i += 16)
    v128.store(out + i, f32x4.add(f32x4.mul(f32x4.splat(a), v128.load(x + i)), f32x4.mul(f32x4.splat(b), v128.load(y + i))));
  for (; i < end; i += 4) store<f32>(out + i, a * load<f32>(x + i) + b * load<f32>(y + i));
}
