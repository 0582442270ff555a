// exp: e^x for four lanes or one, the same steps in both. No memory; inlined into its callers.
//   x = n ln2 + r, |r| <= ln2/2;   e^x = 2^n (1 + r + r^2 P(r)), P of degree 5 (the coefficients of Cephes expf)
// Within 2 ulp for x in [-87.33, 88.37]. Below that the result is 0 (no subnormals), above it stays at e^88.37 (2.4e38, not
// infinity): softmax never goes there, and x / (1 + e^-x) is then below 1e-34 for any sane x. NaN stays NaN.

// @ts-ignore: decorator
@inline const LOWEST: f32 = -87.33654; // ln 2^-126, the smallest normal result
// @ts-ignore: decorator
@inline const HIGHEST: f32 = 88.37; // keeps n <= 127
// @ts-ignore: decorator
@inline const LOG2E: f32 = 1.44269504;
// @ts-ignore: decorator
@inline const LN2_HIGH: f32 = 0.693359375; // 10 bits: n * LN2_HIGH is exact
// @ts-ignore: decorator
@inline const LN2_LOW: f32 = -2.12194440e-4;
// @ts-ignore: decorator
@inline const ROUND: f32 = 12582912; // 1.5 * 2^23: adding it leaves n in the low mantissa bits
// @ts-ignore: decorator
@inline const P0: f32 = 1.9875691500e-4;
// @ts-ignore: decorator
@inline const P1: f32 = 1.3981999507e-3;
// @ts-ignore: decorator
@inline const P2: f32 = 8.3334519073e-3;
// @ts-ignore: decorator
@inline const P3: f32 = 4.1665795894e-2;
// @ts-ignore: decorator
@inline const P4: f32 = 1.6666665459e-1;
// @ts-ignore: decorator
@inline const P5: f32 = 5.0000001201e-1;

/** a * b + c: one rounding in the relaxed build where the machine has FMA, two in the plain one. */
// @ts-ignore: decorator
@inline export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

// @ts-ignore: decorator
@inline export function exp4(x: v128): v128 {
  const bounded = f32x4.pmin(f32x4.pmax(x, f32x4.splat(LOWEST)), f32x4.splat(HIGHEST)); // pmin, pmax: one instruction, keep NaN
  const rounded = f32x4.add(f32x4.mul(bounded, f32x4.splat(LOG2E)), f32x4.splat(ROUND));
  const n = f32x4.sub(rounded, f32x4.splat(ROUND));
  let r = madd(n, f32x4.splat(-LN2_HIGH), bounded);
  r = madd(n, f32x4.splat(-LN2_LOW), r);
  let p = madd(f32x4.splat(P0), r, f32x4.splat(P1));
  p = madd(p, r, f32x4.splat(P2));
  p = madd(p, r, f32x4.splat(P3));
  p = madd(p, r, f32x4.splat(P4));
  p = madd(p, r, f32x4.splat(P5));
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), f32x4.splat(1));
  const scaled = i32x4.add(p, i32x4.shl(rounded, 23)); // n into the exponent
  return v128.andnot(scaled, f32x4.lt(x, f32x4.splat(LOWEST)));
}

// @ts-ignore: decorator
@inline export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}
