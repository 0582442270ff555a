// reciprocal: out[i] = 1 / x[i], elementwise; of 0 infinity.
// in    x [count] f32      out  [count] f32, may be x

export function reciprocal(out: usize, x: usize, count: i32): void {
  const vectorEnd = (<usize>(count & ~3)) << 2;
  const end = (<usize>count) << 2;
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) v128.store(out + i, f32x4.div(f32x4.splat(1), v128.load(x + i)));
  for (; i < end; i += 4) store<f32>(out + i, 1 / load<f32>(x + i));
}
