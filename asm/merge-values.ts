// merge-values: kept values take in the values of rows that go, as much as keys were alike and values long (MergingPress).
//   w_e = max(s_e, 0) |v_e| / (|v_e| + |v_r| + 1e-6)  where s_e = similarity[h,e] >= threshold[h], else 0;   r = target[h,e]
//   v[r] = (v[r] + sum over e of w_e v[e]) / (1 + sum over e of w_e)   where that sum is above 0;  rows with target 0xffffffff go to none
// in    v [n, H, d] f32      target [H, n] u32      similarity [H, n] f32      norms [H, n] f32: |v|      threshold [H] f32
// out   v; only rows that are somebody's target change
// scratch mergeValuesScratchBytes(n): lists of what goes to each row: first [n], next [n] u32
import { madd } from './exp';

// @ts-ignore: decorator
@inline const NONE: u32 = 0xffffffff;

export function mergeValuesScratchBytes(n: i32): usize {
  return (<usize>n) << 3;
}

export function mergeValues(
  v: usize,
  target: usize,
  similarity: usize,
  norms: usize,
  threshold: usize,
  n: i32,
  kvHeads: i32,
  headDim: i32,
  scratch: usize,
): void {
  const rowBytes = (<usize>kvHeads * headDim) << 2;
  const next = scratch + ((<usize>n) << 2);
  for (let h = 0; h < kvHeads; h++) {
    const values = v + ((<usize>h * headDim) << 2);
    const nearest = target + ((<usize>h * n) << 2);
    const cosines = similarity + ((<usize>h * n) << 2);
    const lengths = norms + ((<usize>h * n) << 2);
    const least = load<f32>(threshold + ((<usize>h) << 2));
    memory.fill(scratch, 0xff, (<usize>n) << 2);
    for (let e = n - 1; e >= 0; e--) {
      const at = (<usize>e) << 2;
      const r = load<u32>(nearest + at);
      if (r == NONE) continue;
      const s = load<f32>(cosines + at);
      if (!(s >= least && s > 0)) continue;
      store<u32>(next + at, load<u32>(scratch + ((<usize>r) << 2)));
      store<u32>(scratch + ((<usize>r) << 2), e);
    }
    for (let r = 0; r < n; r++) {
      let e = load<u32>(scratch + ((<usize>r) << 2));
      if (e == NONE) continue;
      const row = values + <usize>r * rowBytes;
      const length = load<f32>(lengths + ((<usize>r) << 2));
      let total: f32 = 0;
      while (e != NONE) {
        const at = (<usize>e) << 2;
        const other = load<f32>(lengths + at);
        const w: f32 = (load<f32>(cosines + at) * other) / (other + length + 1e-6);
        addScaled(row, values + <usize>e * rowBytes, w, headDim);
        total += w;
        e = load<u32>(next + at);
      }
      divide(row, 1 + total, headDim);
    }
  }
}

/** to [d] += x [d] * factor. */
function addScaled(to: usize, x: usize, factor: f32, length: i32): void {
  const vectorEnd = (<usize>(length & ~3)) << 2;
  const allEnd = (<usize>length) << 2;
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) v128.store(to + i, madd(v128.load(x + i), f32x4.splat(factor), v128.load(to + i)));
  for (; i < allEnd; i += 4) store<f32>(to + i, load<f32>(to + i) + load<f32>(x + i) * factor);
}

function divide(x: usize, by: f32, length: i32): void {
  const vectorEnd = (<usize>(length & ~3)) << 2;
  const allEnd = (<usize>length) << 2;
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) v128.store(x + i, f32x4.div(v128.load(x + i), f32x4.splat(by)));
  for (; i < allEnd; i += 4) store<f32>(x + i, load<f32>(x + i) / by);
}
