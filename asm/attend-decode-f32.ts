// attend-decode-f32: the products of attend-decode over f32 pages, for two rows or one; `keys` entries of one page, which lie in a row.
//   dot  p[r, t] = q[r].k[t]    add  sums[r] += sum over t of p[r, t] v[t]
// in   q [1 or 2, d] f32    k, v [keys, d] f32    width = 4 d, the bytes of a row; d a multiple of 4    (4-byte aligned)
// out  p f32, row 1 P_STRIDE bytes after row 0 (written by dot to a multiple of 4 keys, read by add)    sums [1 or 2, d] f32
// scratch  none
// All sums are f32; those over d run in four lanes.
import { P_STRIDE } from './attend-rows';
import { madd } from './exp';
import { sumLanes } from './sum-lanes';

/**
 * Reads a word of every cache line, in order: memory then streams where the loops below would wait row by row. Between two
 * tokens the weights pass through the cache, so pages are cold. 33 MB of f32 pages: 6.5 -> 3.6 ms; in cache 10% slower; int8 the same.
 */
// @ts-ignore: decorator
@inline export function touch(from: usize, bytes: usize): i32 {
  let bits = 0;
  for (const end = from + bytes; from < end; from += 64) bits ^= load<i32>(from);
  return bits;
}

/** p[0, t] = q[0].k[t], p[1, t] = q[1].k[t]; four keys at a time, keys past the last repeat it. */
export function dotTwo(p: usize, q: usize, k: usize, keys: i32, width: usize): void {
  dot(true, p, q, k, keys, width);
}

export function dotOne(p: usize, q: usize, k: usize, keys: i32, width: usize): void {
  dot(false, p, q, k, keys, width);
}

/** `two` is known when this is compiled in: what belongs to the second row costs one row nothing. So in `add`. */
// @ts-ignore: decorator
@inline function dot(two: bool, p: usize, q: usize, k: usize, keys: i32, width: usize): void {
  const last = k + <usize>(keys - 1) * width;
  for (; k <= last; k += 4 * width, p += 16) {
    const k1 = min(k + width, last) - k, k2 = min(k + 2 * width, last) - k, k3 = min(k + 3 * width, last) - k;
    let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
    let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
    const end = k + width;
    for (let x = k, y = q; x < end; x += 16, y += 16) {
      const q0 = v128.load(y), q1 = two ? v128.load(y + width) : q0;
      let key = v128.load(x);
      a0 = madd(q0, key, a0);
      if (two) b0 = madd(q1, key, b0);
      key = v128.load(x + k1);
      a1 = madd(q0, key, a1);
      if (two) b1 = madd(q1, key, b1);
      key = v128.load(x + k2);
      a2 = madd(q0, key, a2);
      if (two) b2 = madd(q1, key, b2);
      key = v128.load(x + k3);
      a3 = madd(q0, key, a3);
      if (two) b3 = madd(q1, key, b3);
    }
    v128.store(p, sumLanes(a0, a1, a2, a3));
    if (two) v128.store(p + P_STRIDE, sumLanes(b0, b1, b2, b3));
  }
}

/** sums[0, c] += sum over t of p[0, t] v[t, c], and so sums[1, c] from p[1]; 16 columns at a time. (Two entries a turn: 7% slower.) */
export function addTwo(sums: usize, p: usize, v: usize, keys: i32, width: usize): void {
  add(true, sums, p, v, keys, width);
}

export function addOne(sums: usize, p: usize, v: usize, keys: i32, width: usize): void {
  add(false, sums, p, v, keys, width);
}

// @ts-ignore: decorator
@inline function add(two: bool, sums: usize, p: usize, v: usize, keys: i32, width: usize): void {
  const end = p + (<usize>keys << 2);
  let at: usize = 0;
  for (; at + 64 <= width; at += 64) {
    const a = sums + at, b = two ? a + width : a;
    let a0 = v128.load(a), a1 = v128.load(a, 16), a2 = v128.load(a, 32), a3 = v128.load(a, 48);
    let b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32), b3 = v128.load(b, 48);
    for (let x = p, row = v + at; x < end; x += 4, row += width) {
      const p0 = v128.load32_splat(x), p1 = two ? v128.load32_splat(x, P_STRIDE) : p0;
      let value = v128.load(row);
      a0 = madd(p0, value, a0);
      if (two) b0 = madd(p1, value, b0);
      value = v128.load(row, 16);
      a1 = madd(p0, value, a1);
      if (two) b1 = madd(p1, value, b1);
      value = v128.load(row, 32);
      a2 = madd(p0, value, a2);
      if (two) b2 = madd(p1, value, b2);
      value = v128.load(row, 48);
      a3 = madd(p0, value, a3);
      if (two) b3 = madd(p1, value, b3);
    }
    v128.store(a, a0); v128.store(a, a1, 16); v128.store(a, a2, 32); v128.store(a, a3, 48);
    if (two) {
      v128.store(b, b0); v128.store(b, b1, 16); v128.store(b, b2, 32); v128.store(b, b3, 48);
    }
  }
  if (at < width) {
    addColumns(sums, p, v, end, at, width);
    if (two) addColumns(sums + width, p + P_STRIDE, v, end + P_STRIDE, at, width);
  }
}

/** The columns from byte `at` on, four at a time. */
function addColumns(sums: usize, p: usize, v: usize, end: usize, at: usize, width: usize): void {
  for (; at < width; at += 16) {
    let a = v128.load(sums + at);
    for (let x = p, row = v + at; x < end; x += 4, row += width) a = madd(v128.load32_splat(x), v128.load(row), a);
    v128.store(sums + at, a);
  }
}
