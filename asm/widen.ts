// widen: f16 to f32, what halve wrote, exactly
//   out[i] = x[i]; NaN stays NaN
// in   x [count] f16 (4-byte aligned; up to 4 bytes behind it are read), count even
// out  out [count] f32 (4-byte aligned), not x
import { load4Entries } from './half';

export function widen(out: usize, x: usize, count: i32): void {
  const end = x + (<usize>count << 1);
  for (; x + 8 <= end; x += 8, out += 16) v128.store(out, load4Entries(x));
  if (x < end) v128.store64_lane(out, load4Entries(x), 0);
}
