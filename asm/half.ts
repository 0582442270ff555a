// half: f16 and bf16 to f32. A weight is finite, so f16 infinities and NaN are not told apart from large numbers.
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
