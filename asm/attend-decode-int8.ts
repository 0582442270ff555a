// attend-decode-int8: the products of attend-decode over int8 pages: q and the weights become i16, so that products are sums of i16 pairs
// in i32. A step is what one unit of an integer is worth: x = step * integer.
//   dot  p[r, t] = kScale[t] qStep[r] (k8[t].q16[r]),   qStep = max |q| / 32767 (more from d = 517 on: narrowQuery)
//   add  sums[r] += wStep[r] sum over t of w16[r, t] v8[t],   w[t] = e^(p[t] - max p) vScale[t],   wStep = max w / 32767, of one tile
// What it costs: the numbers of a k are already off by up to 1/254 of its largest, those of q are now off by up to 1/65534 of its
// largest. Taking errors as random, the score moves by 1/258 of what the rounding of K does where q and k are alike in shape, by
// sqrt(d) / 258 of it at worst: all numbers of k of one size, all of q but one zero.
// A weight is off by up to 2^-16 of the tile's largest, where the numbers of a v are already off by up to 2^-8 of its largest.
// in   q [1 or 2, d] i16 in rows of 4 d bytes    k, v [keys, d] i8    scales [keys] f32    steps: querySteps or weightSteps of attend-rows
// out  p, row 1 P_STRIDE bytes after row 0: f32 scores from dot, i16 weights for add    sums [1 or 2, d] f32
// scratch  querySteps, weightSteps [8] f32 in attend-rows
import { P_STRIDE, Rows } from './attend-rows';
import { pageOf, Pages, scalesAt } from './entry-page';
import { madd } from './exp';

/** The largest lane of non-negative floats, by their bits: NaN is largest. */
// @ts-ignore: decorator
@inline function largestLane(x: v128): f32 {
  x = i32x4.max_s(x, i32x4.shuffle(x, x, 2, 3, 0, 1));
  x = i32x4.max_s(x, i32x4.shuffle(x, x, 1, 0, 3, 2));
  return f32x4.extract_lane(x, 0);
}

/** [count] f32 at x, read to a multiple of 4, to i16 in its place: x / step, nearest. Returns the step; a NaN makes it NaN. */
function narrow(x: usize, count: i32, most: f32): f32 {
  const end = x + (<usize>count << 2);
  let top = f32x4.splat(0);
  for (let at = x; at < end; at += 16) top = i32x4.max_s(top, f32x4.abs(v128.load(at)));
  const largest = largestLane(top);
  const inverse = f32x4.splat(largest < <f32>1e-30 ? 0 : most / largest);
  const round = f32x4.splat(12582912); // 1.5 * 2^23: the sum's low bits are the nearest integer
  for (let to = x; x < end; x += 16, to += 8) {
    const steps = i32x4.sub(f32x4.add(f32x4.mul(v128.load(x), inverse), round), round);
    v128.store64_lane(to, i16x8.narrow_i32x4_s(steps, steps), 0);
  }
  return largest / most;
}

export function narrowQuery(q: usize, d: i32): f32 {
  return narrow(q, d, <f32>min(32767, 16909320 / d)); // 127 * 16909320 < 2^31: the sum over d stays an i32
}

/** Each row's e^(s - m), times the V scale of its entry, to i16 in its place. */
export function narrowWeights(rows: Rows, pages: Pages, count: i32, e0: i32, entries: i32): void {
  const E = pages.E;
  for (let t = 0, part = 0; t < entries; t += part) {
    const slot = (e0 + t) % E;
    const scales = pages.pool + <usize>pageOf(pages, e0 + t) * pages.pageBytes + scalesAt(E, rows.d) + (<usize>(E + slot) << 2);
    part = min(E - slot, entries - t);
    const bytes = <usize>part << 2;
    for (let g = 0; g < count; g++) {
      const p = rows.p + <usize>g * P_STRIDE + (<usize>t << 2);
      let at: usize = 0;
      for (; at + 16 <= bytes; at += 16) v128.store(p + at, f32x4.mul(v128.load(p + at), v128.load(scales + at)));
      for (; at < bytes; at += 4) store<f32>(p + at, load<f32>(p + at) * load<f32>(scales + at));
    }
  }
  for (let g = 0; g < count; g++) store<f32>(rows.weightSteps + (<usize>g << 2), narrow(rows.p + <usize>g * P_STRIDE, entries, 32767));
}

/** The four lane sums of a, b, c, d. */
// @ts-ignore: decorator
@inline function laneSumsI32(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(i32x4.shuffle(c, d, 0, 4, 1, 5), i32x4.shuffle(c, d, 2, 6, 3, 7));
  return i32x4.add(i32x4.shuffle(ab, cd, 0, 1, 4, 5), i32x4.shuffle(ab, cd, 2, 3, 6, 7));
}

// @ts-ignore: decorator
@inline function fourBytes(x: usize): v128 {
  return i16x8.extend_low_i8x16_s(v128.load32_zero(x));
}

/** As dotTwo; q i16 with rows 4 d bytes apart, `steps` and `scales` f32. */
export function dotTwoInt8(p: usize, q: usize, steps: usize, k: usize, scales: usize, keys: i32, d: i32): void {
  dot(true, p, q, steps, k, scales, keys, d);
}

export function dotOneInt8(p: usize, q: usize, steps: usize, k: usize, scales: usize, keys: i32, d: i32): void {
  dot(false, p, q, steps, k, scales, keys, d);
}

// @ts-ignore: decorator
@inline function dot(two: bool, p: usize, q: usize, steps: usize, k: usize, scales: usize, keys: i32, d: i32): void {
  const step0 = v128.load32_splat(steps), step1 = two ? v128.load32_splat(steps, 4) : step0;
  const apart = <usize>d << 2;
  for (let left = keys - 1; left >= 0; left -= 4, k += 4 * <usize>d, scales += 16, p += 16) {
    const n1 = <usize>min(1, left), n2 = <usize>min(2, left), n3 = <usize>min(3, left);
    const k1 = n1 * <usize>d, k2 = n2 * <usize>d, k3 = n3 * <usize>d;
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
    let x = k, y = q;
    for (const end = k + <usize>(d & ~7); x < end; x += 8, y += 16) {
      const q0 = v128.load(y), q1 = two ? v128.load(y + apart) : q0;
      let key = v128.load8x8_s(x);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(q0, key));
      if (two) b0 = i32x4.add(b0, i32x4.dot_i16x8_s(q1, key));
      key = v128.load8x8_s(x + k1);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(q0, key));
      if (two) b1 = i32x4.add(b1, i32x4.dot_i16x8_s(q1, key));
      key = v128.load8x8_s(x + k2);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(q0, key));
      if (two) b2 = i32x4.add(b2, i32x4.dot_i16x8_s(q1, key));
      key = v128.load8x8_s(x + k3);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(q0, key));
      if (two) b3 = i32x4.add(b3, i32x4.dot_i16x8_s(q1, key));
    }
    if (d & 4) {
      const q0 = v128.load64_zero(y), q1 = two ? v128.load64_zero(y + apart) : q0;
      let key = fourBytes(x);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(q0, key));
      if (two) b0 = i32x4.add(b0, i32x4.dot_i16x8_s(q1, key));
      key = fourBytes(x + k1);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(q0, key));
      if (two) b1 = i32x4.add(b1, i32x4.dot_i16x8_s(q1, key));
      key = fourBytes(x + k2);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(q0, key));
      if (two) b2 = i32x4.add(b2, i32x4.dot_i16x8_s(q1, key));
      key = fourBytes(x + k3);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(q0, key));
      if (two) b3 = i32x4.add(b3, i32x4.dot_i16x8_s(q1, key));
    }
    const scale = scalesOf(scales, n1, n2, n3);
    v128.store(p, f32x4.mul(f32x4.convert_i32x4_s(laneSumsI32(a0, a1, a2, a3)), f32x4.mul(scale, step0)));
    if (two) v128.store(p + P_STRIDE, f32x4.mul(f32x4.convert_i32x4_s(laneSumsI32(b0, b1, b2, b3)), f32x4.mul(scale, step1)));
  }
}

/** Four scales; never reads past the last one asked for. */
// @ts-ignore: decorator
@inline function scalesOf(scales: usize, n1: usize, n2: usize, n3: usize): v128 {
  if (n3 == 3) return v128.load(scales);
  return f32x4(load<f32>(scales), load<f32>(scales + (n1 << 2)), load<f32>(scales + (n2 << 2)), load<f32>(scales + (n3 << 2)));
}

/** As addTwo; w i16, `steps` f32. Entries go in pairs, the last of an odd count with a weight of 0 for its twin. */
export function addTwoInt8(sums: usize, w: usize, steps: usize, v: usize, keys: i32, d: i32): void {
  add(true, sums, w, steps, v, keys, d);
}

export function addOneInt8(sums: usize, w: usize, steps: usize, v: usize, keys: i32, d: i32): void {
  add(false, sums, w, steps, v, keys, d);
}

// @ts-ignore: decorator
@inline function add(two: bool, sums: usize, w: usize, steps: usize, v: usize, keys: i32, d: i32): void {
  const width = <usize>d;
  const step0 = v128.load32_splat(steps), step1 = two ? v128.load32_splat(steps, 4) : step0;
  const other = sums + (width << 2);
  let c: usize = 0;
  for (; c + 16 <= width; c += 16) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
    let row = v + c, x = w;
    for (let left = keys; left > 0; left -= 2, row += 2 * width, x += 4) {
      const twin = row + (left > 1 ? width : 0);
      const mask = i32x4.splat(left > 1 ? -1 : 0xffff);
      const w0 = v128.and(v128.load32_splat(x), mask), w1 = two ? v128.and(v128.load32_splat(x, P_STRIDE), mask) : w0;
      let entry = v128.load8x8_s(row), next = v128.load8x8_s(twin);
      let pairs = i16x8.shuffle(entry, next, 0, 8, 1, 9, 2, 10, 3, 11);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(pairs, w0));
      if (two) b0 = i32x4.add(b0, i32x4.dot_i16x8_s(pairs, w1));
      pairs = i16x8.shuffle(entry, next, 4, 12, 5, 13, 6, 14, 7, 15);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(pairs, w0));
      if (two) b1 = i32x4.add(b1, i32x4.dot_i16x8_s(pairs, w1));
      entry = v128.load8x8_s(row, 8);
      next = v128.load8x8_s(twin, 8);
      pairs = i16x8.shuffle(entry, next, 0, 8, 1, 9, 2, 10, 3, 11);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(pairs, w0));
      if (two) b2 = i32x4.add(b2, i32x4.dot_i16x8_s(pairs, w1));
      pairs = i16x8.shuffle(entry, next, 4, 12, 5, 13, 6, 14, 7, 15);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(pairs, w0));
      if (two) b3 = i32x4.add(b3, i32x4.dot_i16x8_s(pairs, w1));
    }
    const at = c << 2;
    addSteps(sums + at, a0, step0); addSteps(sums + at + 16, a1, step0); addSteps(sums + at + 32, a2, step0); addSteps(sums + at + 48, a3, step0);
    if (two) {
      addSteps(other + at, b0, step1); addSteps(other + at + 16, b1, step1); addSteps(other + at + 32, b2, step1); addSteps(other + at + 48, b3, step1);
    }
  }
  addColumnsInt8(sums, w, step0, v, keys, c, width);
  if (two) addColumnsInt8(other, w + P_STRIDE, step1, v, keys, c, width);
}

/** The columns from c on, four at a time. */
function addColumnsInt8(sums: usize, w: usize, step: v128, v: usize, keys: i32, c: usize, width: usize): void {
  for (; c < width; c += 4) {
    let a = i32x4.splat(0);
    for (let t = 0, row = v + c; t < keys; t++, row += width) {
      a = i32x4.add(a, i32x4.mul(i32x4.extend_low_i16x8_s(fourBytes(row)), i32x4.splat(load<i16>(w + (<usize>t << 1)))));
    }
    addSteps(sums + (c << 2), a, step);
  }
}

// @ts-ignore: decorator
@inline function addSteps(sums: usize, steps: v128, step: v128): void {
  v128.store(sums, madd(f32x4.convert_i32x4_s(steps), step, v128.load(sums)));
}
