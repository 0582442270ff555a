// softmax-rows: softmax weights of up to 16 queries of one head over its keys, a vector per key and 4 queries. For kernels that reduce them by
// columns: score-window, score-columns, window-moments.
//   weights [4, n + 4, 4]: 4 groups of 4 rows; group g at weights + g * groupStride, key j of it at + 16 j
//
// 16 rows at a time pass over the keys in tiles that stay in the first cache, 4 rows x 2 keys in registers. A vector holds one key for
// 4 rows, so that maximum, exp and sum need no horizontal step. Logits are stored, not computed twice: 256 n bytes. Sums of exp are
// f32 over a tile, then over tiles.
import { exp4, madd } from './exp';
import { sumLanes } from './sum-lanes';

// @ts-ignore: decorator
@inline const GROUPS: i32 = 4;
/** Rows of one call at most: GROUPS x 4 lanes. */
// @ts-ignore: decorator
@inline export const ROWS: i32 = 16;
// @ts-ignore: decorator
@inline const TILE: i32 = 64; // keys; 16 KiB at d = 64

/** Of the weights, 16-byte aligned. */
export function weightsBytes(n: i32): usize {
  return (<usize>(n + 4) * GROUPS) << 4;
}

// @ts-ignore: decorator
@inline
export function groupStrideOf(n: i32): usize {
  return (<usize>(n + 4)) << 4;
}

/**
 * Weights of `rows` queries, the first at position `first`: each sees the keys up to its own position, key n - 1 at most. Keys from..to-1 are those that
 * some row sees. Row r is multiplied by scales[r], or by `factor` where `scales` is null.
 */
export function weighRows(
  weights: usize, queries: usize, head: usize, rows: i32, first: i32, from: i32, to: i32, queryStride: usize, keyStride: usize, n: i32, headDim: i32,
  scale: f32, slidingWindow: i32, scales: usize, factor: f32,
): void {
  const groups = (rows + 3) >> 2;
  const groupStride = groupStrideOf(n);
  for (let tile = from; tile < to; tile += TILE)
    for (let g = 0; g < groups; g++) {
      const r = g << 2;
      const start = max(tile, firstSeen(first + r, slidingWindow));
      const end = min(min(tile + TILE, to), first + r + 4);
      logits(weights + <usize>g * groupStride, queries, r, rows - 1, queryStride, head, keyStride, start, end, headDim, scale);
    }
  for (let g = 0; g < groups; g++) {
    const r = g << 2;
    let factors = f32x4.splat(factor);
    if (scales !== 0) {
      const last = rows - 1;
      factors = f32x4(rowScale(scales, r), rowScale(scales, min(r + 1, last)), rowScale(scales, min(r + 2, last)), rowScale(scales, min(r + 3, last)));
    }
    softmax(weights + <usize>g * groupStride, first + r, rows - r, from, to, slidingWindow, factors);
  }
}

// @ts-ignore: decorator
@inline function rowScale(scales: usize, r: i32): f32 {
  return load<f32>(scales + ((<usize>r) << 2));
}

/** The lowest position that a query at `position` sees. */
// @ts-ignore: decorator
@inline
export function firstSeen(position: i32, slidingWindow: i32): i32 {
  return slidingWindow > 0 ? max(0, position - slidingWindow + 1) : 0;
}

/** Logits of rows r..r+3 (row `lastRow` again where there are fewer) with keys start..end-1. May write one slot beyond. */
function logits(
  to: usize, queries: usize, r: i32, lastRow: i32, queryStride: usize, head: usize, keyStride: usize, start: i32, end: i32, headDim: i32, scale: f32,
): void {
  const q0 = queries + <usize>r * queryStride;
  const q1 = queries + <usize>min(r + 1, lastRow) * queryStride;
  const q2 = queries + <usize>min(r + 2, lastRow) * queryStride;
  const q3 = queries + <usize>min(r + 3, lastRow) * queryStride;
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  for (let j = start; j < end; j += 2) {
    const k0 = head + <usize>j * keyStride;
    const k1 = j + 1 < end ? k0 + keyStride : k0;
    let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    let c: usize = 0;
    for (; c < vectorEnd; c += 16) {
      const x = v128.load(k0 + c);
      const y = v128.load(k1 + c);
      let query = v128.load(q0 + c);
      a0 = madd(query, x, a0);
      b0 = madd(query, y, b0);
      query = v128.load(q1 + c);
      a1 = madd(query, x, a1);
      b1 = madd(query, y, b1);
      query = v128.load(q2 + c);
      a2 = madd(query, x, a2);
      b2 = madd(query, y, b2);
      query = v128.load(q3 + c);
      a3 = madd(query, x, a3);
      b3 = madd(query, y, b3);
    }
    let a = sumLanes(a0, a1, a2, a3);
    let b = sumLanes(b0, b1, b2, b3);
    for (; c < allEnd; c += 4) {
      const query = f32x4(load<f32>(q0 + c), load<f32>(q1 + c), load<f32>(q2 + c), load<f32>(q3 + c));
      a = madd(query, v128.load32_splat(k0 + c), a);
      b = madd(query, v128.load32_splat(k1 + c), b);
    }
    const slot = to + ((<usize>j) << 4);
    v128.store(slot, f32x4.mul(a, f32x4.splat(scale)));
    v128.store(slot, f32x4.mul(b, f32x4.splat(scale)), 16);
  }
}

/**
 * Logits become softmax weights times `factors` in place, 0 where a row does not see the key, over keys from..to-1.
 * Lane r is the query at position `first` + r; lanes from `rows` on are no queries: they see what the last one sees, and weigh 0.
 */
function softmax(x: usize, first: i32, rows: i32, from: i32, to: i32, slidingWindow: i32, factors: v128): void {
  const start = firstSeen(first, slidingWindow); // keys that some lane sees: start .. end-1
  const end = min(to, first + 4);
  for (let j = from; j < start; j++) v128.store(x + ((<usize>j) << 4), f32x4.splat(0));
  for (let j = end; j < to; j++) v128.store(x + ((<usize>j) << 4), f32x4.splat(0));
  const positions = i32x4.add(i32x4.splat(first), i32x4.min_s(i32x4(0, 1, 2, 3), i32x4.splat(rows - 1)));
  for (let j = max(start, first + 1); j < end; j++) hide(x, j, i32x4.gt_s(i32x4.splat(j), positions));
  if (slidingWindow > 0) {
    const lowest = i32x4.sub(positions, i32x4.splat(slidingWindow - 1));
    for (let j = start; j < min(end, start + 4); j++) hide(x, j, i32x4.lt_s(i32x4.splat(j), lowest));
  }

  let highest = f32x4.splat(-Infinity);
  const last = x + ((<usize>end) << 4);
  for (let at = x + ((<usize>start) << 4); at < last; at += 16) highest = f32x4.pmax(highest, v128.load(at));
  let sum = f32x4.splat(0);
  for (let tile = start; tile < end; tile += TILE) {
    const tileEnd = x + ((<usize>min(tile + TILE, end)) << 4);
    let part = f32x4.splat(0);
    for (let at = x + ((<usize>tile) << 4); at < tileEnd; at += 16) {
      const e = exp4(f32x4.sub(v128.load(at), highest));
      v128.store(at, e);
      part = f32x4.add(part, e);
    }
    sum = f32x4.add(sum, part);
  }
  const isQuery = i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(rows));
  const factor = v128.and(f32x4.div(factors, sum), isQuery);
  for (let at = x + ((<usize>start) << 4); at < last; at += 16) v128.store(at, f32x4.mul(v128.load(at), factor));
}

// @ts-ignore: decorator
@inline
function hide(x: usize, j: i32, lanes: v128): void {
  const at = x + ((<usize>j) << 4);
  v128.store(at, v128.bitselect(f32x4.splat(-Infinity), v128.load(at), lanes));
}

/** column[j] += the weights of all rows of all groups, j in from..to-1. */
export function addColumns(column: usize, weights: usize, groups: i32, groupStride: usize, from: i32, to: i32): void {
  let j = from;
  for (; j + 4 <= to; j += 4) {
    let at = weights + ((<usize>j) << 4);
    let a = v128.load(at), b = v128.load(at, 16), c = v128.load(at, 32), d = v128.load(at, 48);
    for (let g = 1; g < groups; g++) {
      at += groupStride;
      a = f32x4.add(a, v128.load(at));
      b = f32x4.add(b, v128.load(at, 16));
      c = f32x4.add(c, v128.load(at, 32));
      d = f32x4.add(d, v128.load(at, 48));
    }
    const to4 = column + ((<usize>j) << 2);
    v128.store(to4, f32x4.add(v128.load(to4), sumLanes(a, b, c, d)));
  }
  for (; j < to; j++) {
    let at = weights + ((<usize>j) << 4);
    let a = v128.load(at);
    for (let g = 1; g < groups; g++) {
      at += groupStride;
      a = f32x4.add(a, v128.load(at));
    }
    const to1 = column + ((<usize>j) << 2);
    store<f32>(to1, load<f32>(to1) + f32x4.extract_lane(sumLanes(a, a, a, a), 0));
  }
}
