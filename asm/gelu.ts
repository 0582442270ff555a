// gelu: out[i] = x[i] Phi(x[i]), Phi(x) = (1 + erf(x / sqrt 2)) / 2, the exact form, not the one by tanh
//   t = 1 / (1 + 0.3275911 |x| / sqrt 2);   tail = (a1 t + .. + a5 t^5) e^(-x^2/2) / 2, within 7.5e-8 of 1 - Phi(|x|)
//   out = x (1 - tail) where x >= 0, else x tail
// in   x [count] f32 (4-byte aligned)
// out  out [count] f32; may be x
// a1 .. a5: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26
import { exp4, madd } from './exp';

// @ts-ignore: decorator
@inline const P: f32 = 0.231641888; // 0.3275911 / sqrt 2
// @ts-ignore: decorator
@inline const A1: f32 = 0.254829592;
// @ts-ignore: decorator
@inline const A2: f32 = -0.284496736;
// @ts-ignore: decorator
@inline const A3: f32 = 1.421413741;
// @ts-ignore: decorator
@inline const A4: f32 = -1.453152027;
// @ts-ignore: decorator
@inline const A5: f32 = 1.061405429;

export function gelu(out: usize, x: usize, count: i32): void {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = <usize>i << 2;
    v128.store(out + at, four(v128.load(x + at)));
  }
  for (; i < count; i++) {
    const at = <usize>i << 2;
    store<f32>(out + at, f32x4.extract_lane(four(f32x4.splat(load<f32>(x + at))), 0));
  }
}

// @ts-ignore: decorator
@inline function four(x: v128): v128 {
  const one = f32x4.splat(1);
  const t = f32x4.div(one, madd(f32x4.splat(P), f32x4.abs(x), one));
  let p = madd(f32x4.splat(A5), t, f32x4.splat(A4));
  p = madd(p, t, f32x4.splat(A3));
  p = madd(p, t, f32x4.splat(A2));
  p = madd(p, t, f32x4.splat(A1));
  const half = f32x4.mul(f32x4.mul(p, t), f32x4.splat(0.5));
  const tail = f32x4.mul(half, exp4(f32x4.mul(f32x4.mul(x, x), f32x4.splat(-0.5))));
  const phi = v128.bitselect(tail, f32x4.sub(one, tail), f32x4.lt(x, f32x4.splat(0)));
  const y = f32x4.mul(x, phi);
  return v128.andnot(y, f32x4.eq(x, f32x4.splat(-Infinity))); // -Infinity * 0 would be NaN
}
