// exp: e^x for four lanes or one, the same steps in both. No memory; inlined into its callers.
//   x = n ln2 + r, |r| <= ln2/2;   e^x = 2^n (1 + r + r^2 P(r)), P the polynomial of degree 4 of least relative error (3e-9)
// For x <= 88.37; within 1 ulp down to -87.33, below that 0 (no subnormals). NaN stays NaN. Callers with larger x bound it first.

// @ts-ignore: decorator
@inline const LOWEST: f32 = -87.33654; // ln 2^-126, the smallest normal result
/** From here on n would be 128, which an f32 exponent cannot hold. */
export const EXP_HIGHEST: f32 = 88.37;
// @ts-ignore: decorator
@inline const LOG2E: f32 = 1.44269504;
// @ts-ignore: decorator
@inline const LN2_HIGH: f32 = 0.693359375; // 10 bits: n * LN2_HIGH is exact
// @ts-ignore: decorator
@inline const LN2_LOW: f32 = -2.12194440e-4;
// @ts-ignore: decorator
@inline const ROUND: f32 = 12582912; // 1.5 * 2^23: adding it leaves n in the low mantissa bits
// @ts-ignore: decorator
@inline const P0: f32 = 0.0013814467;
// @ts-ignore: decorator
@inline const P1: f32 = 0.0083687808;
// @ts-ignore: decorator
@inline const P2: f32 = 0.041668393;
// @ts-ignore: decorator
@inline const P3: f32 = 0.16666520;
// @ts-ignore: decorator
@inline const P4: f32 = 0.49999994;

/** a * b + c: one rounding in the relaxed build where the machine has FMA, two in the plain one. */
// @ts-ignore: decorator
@inline export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

// @ts-ignore: decorator
@inline export function exp4(x: v128): v128 {
  const bounded = f32x4.pmax(x, f32x4.splat(LOWEST)); // one instruction, keeps NaN
  const rounded = f32x4.add(f32x4.mul(bounded, f32x4.splat(LOG2E)), f32x4.splat(ROUND));
  const n = f32x4.sub(rounded, f32x4.splat(ROUND));
  let r = madd(n, f32x4.splat(-LN2_HIGH), bounded);
  r = madd(n, f32x4.splat(-LN2_LOW), r);
  let p = madd(f32x4.splat(P0), r, f32x4.splat(P1));
  p = madd(p, r, f32x4.splat(P2));
  p = madd(p, r, f32x4.splat(P3));
  p = madd(p, r, f32x4.splat(P4));
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), f32x4.splat(1));
  const scaled = i32x4.add(p, i32x4.shl(rounded, 23)); // n into the exponent
  return v128.andnot(scaled, f32x4.lt(x, f32x4.splat(LOWEST)));
}

// @ts-ignore: decorator
@inline export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}
