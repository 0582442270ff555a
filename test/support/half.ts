/** Halves by the formula, in float64: what asm/half.ts and wgsl/parts/half-bits.wgsl do in bits. */

/** To nearest, ties to even; beyond +-65504 that; NaN is 0x7e00. */
export function toHalf(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = Object.is(x, -0) || x < 0 ? 0x8000 : 0;
  const size = Math.min(Math.abs(x), 65504);
  let exponent = Math.max(-14, Math.floor(Math.log2(size)));
  if (2 ** exponent > size && exponent > -14) exponent--;
  if (2 ** (exponent + 1) <= size) exponent++;
  const steps = size / 2 ** (exponent - 10); // 1024 to 2047; below 1024 where it is subnormal
  const low = Math.floor(steps);
  const nearest = steps - low === 0.5 ? low + (low & 1) : Math.round(steps);
  return sign | (((exponent + 14) << 10) + nearest);
}

export function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** f32 that halves round in every way: each half, what lies between it and the next, and a bit to both sides of that; numbers too large, NaN. */
export function awkwardFloats(): Float32Array {
  const values: number[] = [];
  for (let bits = 0; bits < 0x7bff; bits++) {
    const middle = (fromHalf(bits) + fromHalf(bits + 1)) / 2;
    values.push(fromHalf(bits), -middle, middle * (1 + 2 ** -22), -middle * (1 - 2 ** -22));
  }
  values.push(65504, 65519, 65520, -65536, 1e5, -3e38, Infinity, -Infinity, 0, -0, 1e-40, -1e-45, NaN);
  const odd = new Float32Array(Uint32Array.of(0xffc00001, 0x7f800001, 0xff923456).buffer); // NaN of other bits
  const length = Math.ceil((values.length + odd.length) / 4) * 4;
  const all = new Float32Array(length);
  all.set(values);
  all.set(odd, values.length);
  return all;
}
