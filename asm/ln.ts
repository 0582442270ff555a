// ln: natural logarithm of four lanes. No memory; inlined into its callers.
//   x = 2^n (1 + f), sqrt(1/2) <= 1 + f < sqrt 2;   ln x = n ln2 + f - f^2 / 2 + f^3 P(f), P a polynomial of degree 8
// For normal x > 0; relative error below 2e-7, near 1 absolute 1e-7.
import { madd } from './exp';

// @ts-ignore: decorator
@inline const LN2_HIGH: f32 = 0.693359375; // 10 bits: n * LN2_HIGH is exact
// @ts-ignore: decorator
@inline const LN2_LOW: f32 = -2.12194440e-4;
// @ts-ignore: decorator
@inline const SQRT_HALF_BITS: i32 = 0x3f3504f3;

// @ts-ignore: decorator
@inline export function ln4(x: v128): v128 {
  // The exponent goes up by one from sqrt(1/2) on, so that 1 + f lies around 1.
  const above = i32x4.sub(x, i32x4.splat(SQRT_HALF_BITS));
  const exponent = i32x4.shr_s(above, 23);
  const f = f32x4.sub(i32x4.sub(x, i32x4.shl(exponent, 23)), f32x4.splat(1));
  const n = f32x4.convert_i32x4_s(exponent);
  const square = f32x4.mul(f, f);
  let p = madd(f32x4.splat(7.0376836292e-2), f, f32x4.splat(-1.151461031e-1));
  p = madd(p, f, f32x4.splat(1.167699874e-1));
  p = madd(p, f, f32x4.splat(-1.2420140846e-1));
  p = madd(p, f, f32x4.splat(1.4249322787e-1));
  p = madd(p, f, f32x4.splat(-1.6668057665e-1));
  p = madd(p, f, f32x4.splat(2.0000714765e-1));
  p = madd(p, f, f32x4.splat(-2.4999993993e-1));
  p = madd(p, f, f32x4.splat(3.3333331174e-1));
  p = f32x4.mul(f32x4.mul(p, f), square);
  p = madd(n, f32x4.splat(LN2_LOW), p);
  p = madd(square, f32x4.splat(-0.5), p);
  return madd(n, f32x4.splat(LN2_HIGH), f32x4.add(f, p));
}
