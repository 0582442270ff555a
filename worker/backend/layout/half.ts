/** IEEE half precision and bfloat16 as bits; rounding to the nearest, ties to even. */
const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

export function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  if (exponent === 31) return bits & 0x3ff ? Number.NaN : bits & 0x8000 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  u32[0] = ((bits & 0x8000) << 16) | ((bits & 0x7fff) << 13);
  return f32[0] * 2 ** 112; // the exponent's bias is 127 in f32, 15 in f16; subnormals come out right as well
}

/** To the nearest, ties to even; beyond 65504 infinite. */
export function toHalf(value: number): number {
  f32[0] = value;
  const bits = u32[0];
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return 0x7e00;
  if (size >= 0x477ff000) return sign | 0x7c00; // 65520 and more
  if (size < 0x38800000) {
    // below 2^-14 steps are 2^-24: adding 0.5 leaves their number in the low bits of the f32, rounded to even
    f32[0] = Math.abs(value) + 0.5;
    return sign | (u32[0] - 0x3f000000);
  }
  return sign | ((size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13);
}

export function fromBf16(bits: number): number {
  u32[0] = bits << 16;
  return f32[0];
}

/** To the nearest, ties to even. */
export function toBf16(value: number): number {
  f32[0] = value;
  if (Number.isNaN(value)) return 0x7fc0;
  return ((u32[0] + 0x7fff + ((u32[0] >>> 16) & 1)) >>> 16) & 0xffff;
}
