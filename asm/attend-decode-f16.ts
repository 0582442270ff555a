// attend-decode-f16: entries of one f16 page, which lie in a row, as f32 for the products of attend-decode-f32: exact, so the sums are those over f32
// entries of the same values. Once for up to 8 rows (query heads).
// in   from, `bytes` of f16, a multiple of 8    (4-byte aligned)
// out  to f32, TILE entries at most
// Products of halves as they are read, two rows at a time, were 28% faster for one row, 2 to 12% for two, 6% for four, 14% slower for three and 31% for
// seven, and three times the code.
import { halfMask, load4HalvesDown, UP } from './half';

/** Returns whether there is a NaN among them, which itself comes out as 98304. */
export function widenPart(to: usize, from: usize, bytes: usize): bool {
  const mask = halfMask();
  const up = f32x4.splat(UP);
  let most = i16x8.splat(0);
  const end = from + bytes;
  for (; from + 32 <= end; from += 32, to += 64) {
    most = i16x8.max_s(most, i16x8.max_s(v128.load(from), v128.load(from, 16)));
    v128.store(to, f32x4.mul(load4HalvesDown(from, mask), up));
    v128.store(to, f32x4.mul(load4HalvesDown(from + 8, mask), up), 16);
    v128.store(to, f32x4.mul(load4HalvesDown(from + 16, mask), up), 32);
    v128.store(to, f32x4.mul(load4HalvesDown(from + 24, mask), up), 48);
  }
  for (; from < end; from += 8, to += 16) {
    most = i16x8.max_s(most, v128.load64_zero(from));
    v128.store(to, f32x4.mul(load4HalvesDown(from, mask), up));
  }
  return v128.any_true(i16x8.gt_s(most, i16x8.splat(0x7bff))); // 65504; halfBits writes no larger number and no other NaN than 0x7e00
}
