// half: f16 and bf16 to f32, f32 to f16. A weight is finite, so f16 infinities and NaN are not told apart from large numbers; nor is a KV entry
// infinite, but it may be NaN.
//   An f16's bits, sign-extended and moved up by 13, are an f32 of 2^-112 times the value once the copies of the sign bit
//   are cleared (exponent bias 127 - 15 = 112); subnormals come out right too. Times UP it is exact.

// @ts-ignore: decorator
@inline
export const UP: f32 = 5.192296858534828e33; // 2^112

/** Sums over raw f16 carry half of UP in a factor they multiply by anyway, and the other half at the end: neither side leaves f32's range. */
// @ts-ignore: decorator
@inline
export const HALF_UP: f32 = 72057594037927936; // 2^56

const SIGN_AND_BELOW = memory.data<u32>([0x8fffffff, 0x8fffffff, 0x8fffffff, 0x8fffffff], 16);

/**
 * For load4HalvesDown: everything but the copies of the sign. Read from memory on purpose, here and in the kernels: engines build a v128 constant
 * anew at every use (three instructions in V8), but a loaded one stays in a register.
 */
// @ts-ignore: decorator
@inline
export function halfMask(): v128 {
  return v128.load(SIGN_AND_BELOW);
}

/** The 4 f16 at p times 2^-112. */
// @ts-ignore: decorator
@inline
export function load4HalvesDown(p: usize, mask: v128): v128 {
  return v128.and(i32x4.shl(v128.load16x4_s(p), 13), mask);
}

// @ts-ignore: decorator
@inline
export function load4Halves(p: usize): v128 {
  return f32x4.mul(load4HalvesDown(p, i32x4.splat(0x8fffffff)), f32x4.splat(UP));
}

// @ts-ignore: decorator
@inline
export function loadHalf(p: usize): f32 {
  return reinterpret<f32>((<i32>load<i16>(p) << 13) & 0x8fffffff) * UP;
}

// @ts-ignore: decorator
@inline
export function load4Bf16(p: usize): v128 {
  return i32x4.shl(v128.load16x4_u(p), 16);
}

// @ts-ignore: decorator
@inline
export function loadBf16(p: usize): f32 {
  return reinterpret<f32>(<u32>load<u16>(p) << 16);
}

/** As load4Halves, of what halfBits wrote: its NaN, 98304 by the shift alone, becomes one. */
// @ts-ignore: decorator
@inline
export function load4Entries(p: usize): v128 {
  const x = load4Halves(p);
  return v128.or(x, v128.and(f32x4.gt(x, f32x4.splat(65504)), i32x4.splat(0x7fc00000))); // the NaN that exp4 keeps: none of the lower bits
}

/**
 * f32 to the bits of an f16, one in each i32 lane: to nearest, ties to even; subnormals too. Beyond +-65504, infinities among them, it is +-65504.
 * NaN becomes 0x7e00, the largest of all as an i16. Bit for bit as wgsl/parts/half-bits.wgsl.
 */
// @ts-ignore: decorator
@inline
export function halfBits(x: v128): v128 {
  const magnitude = f32x4.abs(x);
  const bounded = i32x4.min_s(magnitude, i32x4.splat(0x477fe000)); // 65504
  const odd = v128.and(i32x4.shr_u(bounded, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.sub(bounded, i32x4.splat(0x38000000 - 0xfff)), odd), 13); // exponent bias 127 - 15 = 112
  const subnormal = i32x4.sub(f32x4.add(bounded, f32x4.splat(0.5)), i32x4.splat(0x3f000000)); // the last bit of 0.5 is 2^-24, theirs
  const bits = v128.bitselect(subnormal, normal, i32x4.lt_s(bounded, i32x4.splat(0x38800000))); // 2^-14
  const signed = v128.or(bits, v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000)));
  return v128.bitselect(i32x4.splat(0x7e00), signed, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
}
