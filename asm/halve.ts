// halve: f32 to f16
//   out[i] = x[i] to nearest, ties to even; beyond +-65504 that; NaN stays NaN: halfBits
// in   x [count] f32 (4-byte aligned; up to 8 bytes behind it are read), count even
// out  out [count] f16 (4-byte aligned), not x
import { halfBits } from './half';

export function halve(out: usize, x: usize, count: i32): void {
  const end = x + (<usize>count << 2);
  for (; x + 16 <= end; x += 16, out += 8) v128.store64_lane(out, four(x), 0);
  if (x < end) v128.store32_lane(out, four(x), 0);
}

// @ts-ignore: decorator
@inline
function four(x: usize): v128 {
  const bits = halfBits(v128.load(x));
  return i16x8.narrow_i32x4_u(bits, bits);
}
