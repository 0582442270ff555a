// nearest-kept: for every row that goes, the kept row of its head whose key points most the same way (MergingPress).
//   kept: rows order[h,i], i < counts[h];  those that go: the others of among[h,i], i < amongStride, or of all n where there is no `among`
//   cosine(e,r) = k[e].k[r] / (max(|k[e]|, 1e-6) max(|k[r]|, 1e-6))
//   target[h,e] = argmax over kept r of cosine(e,r), ties to the lower row;  similarity[h,e] = that cosine
//   all other rows, and those that have no cosine with any: target 0xffffffff, similarity -2
// in    k [n, H, d] f32      norms [H, n] f32: |k|      order [H, stride] u32      counts [H] u32      among [H, amongStride] u32, or 0
// out   target [H, n] u32      similarity [H, n] f32
// scratch nearestKeptScratchBytes(n): kept rows ascending, then the others ascending, [n] u32
// Tiles of kept rows stay in the first-level cache while all others pass over them.
import { madd } from './exp';
import { sumLanes } from './sum-lanes';

// @ts-ignore: decorator
@inline const TILE: i32 = 64;
// @ts-ignore: decorator
@inline const NONE: u32 = 0xffffffff;
// @ts-ignore: decorator
@inline const GOES: u32 = 0;
// @ts-ignore: decorator
@inline const KEPT: u32 = 1;
// @ts-ignore: decorator
@inline const GONE: u32 = 2;

export function nearestKeptScratchBytes(n: i32): usize {
  return (<usize>n) << 2;
}

export function nearestKept(
  target: usize,
  similarity: usize,
  k: usize,
  norms: usize,
  order: usize,
  stride: i32,
  counts: usize,
  among: usize,
  amongStride: i32,
  n: i32,
  kvHeads: i32,
  headDim: i32,
  scratch: usize,
): void {
  const rowBytes = (<usize>kvHeads * headDim) << 2;
  for (let h = 0; h < kvHeads; h++) {
    const rows = order + ((<usize>h * stride) << 2);
    const keys = k + ((<usize>h * headDim) << 2);
    const lengths = norms + ((<usize>h * n) << 2);
    const nearest = target + ((<usize>h * n) << 2);
    const cosines = similarity + ((<usize>h * n) << 2);
    const count = <i32>load<u32>(counts + ((<usize>h) << 2));
    const others = scratch + ((<usize>count) << 2);
    const going = (among ? amongStride : n) - count;

    memory.fill(nearest, 0, (<usize>n) << 2); // marks, until they are replaced by the result
    if (among) {
      const all = among + ((<usize>h * amongStride) << 2);
      for (let t = 0; t < n; t++) store<u32>(nearest + ((<usize>t) << 2), GONE);
      for (let i = 0; i < amongStride; i++) store<u32>(nearest + ((<usize>load<u32>(all + ((<usize>i) << 2))) << 2), GOES);
    }
    for (let i = 0; i < count; i++) store<u32>(nearest + ((<usize>load<u32>(rows + ((<usize>i) << 2))) << 2), KEPT);
    for (let t = 0, i = 0, j = 0; t < n; t++) {
      const at = (<usize>t) << 2;
      const mark = load<u32>(nearest + at);
      if (mark == KEPT) {
        store<u32>(scratch + ((<usize>i) << 2), t);
        i++;
      } else if (mark == GOES) {
        store<u32>(others + ((<usize>j) << 2), t);
        j++;
      }
      store<u32>(nearest + at, NONE);
      store<f32>(cosines + at, -2);
    }
    for (let start = 0; start < count; start += TILE) {
      const end = min(start + TILE, count);
      for (let e = 0; e < going; e++) {
        const row = <usize>load<u32>(others + ((<usize>e) << 2));
        const key = keys + row * rowBytes;
        const inverse: f32 = <f32>1 / max<f32>(load<f32>(lengths + (row << 2)), 1e-6);
        let best = load<f32>(cosines + (row << 2));
        let found = load<u32>(nearest + (row << 2));
        for (let r = start; r < end; r += 4) {
          const list = scratch + ((<usize>r) << 2);
          const r0 = <usize>load<u32>(list);
          const r1 = r + 1 < end ? <usize>load<u32>(list, 4) : r0; // again: equal, and no better than itself
          const r2 = r + 2 < end ? <usize>load<u32>(list, 8) : r0;
          const r3 = r + 3 < end ? <usize>load<u32>(list, 12) : r0;
          const products = dots(key, keys + r0 * rowBytes, keys + r1 * rowBytes, keys + r2 * rowBytes, keys + r3 * rowBytes, headDim);
          const four = f32x4(
            load<f32>(lengths + (r0 << 2)),
            load<f32>(lengths + (r1 << 2)),
            load<f32>(lengths + (r2 << 2)),
            load<f32>(lengths + (r3 << 2)),
          );
          const cosine = f32x4.div(f32x4.mul(products, f32x4.splat(inverse)), f32x4.max(four, f32x4.splat(1e-6)));
          let x = f32x4.extract_lane(cosine, 0);
          if (x > best) { best = x; found = <u32>r0; }
          x = f32x4.extract_lane(cosine, 1);
          if (x > best) { best = x; found = <u32>r1; }
          x = f32x4.extract_lane(cosine, 2);
          if (x > best) { best = x; found = <u32>r2; }
          x = f32x4.extract_lane(cosine, 3);
          if (x > best) { best = x; found = <u32>r3; }
        }
        store<f32>(cosines + (row << 2), best);
        store<u32>(nearest + (row << 2), found);
      }
    }
  }
}

/** x.a, x.b, x.c, x.d */
function dots(x: usize, a: usize, b: usize, c: usize, d: usize, length: i32): v128 {
  const vectorEnd = (<usize>(length & ~3)) << 2;
  const allEnd = (<usize>length) << 2;
  let sa = f32x4.splat(0),
    sb = sa,
    sc = sa,
    sd = sa;
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) {
    const y = v128.load(x + i);
    sa = madd(y, v128.load(a + i), sa);
    sb = madd(y, v128.load(b + i), sb);
    sc = madd(y, v128.load(c + i), sc);
    sd = madd(y, v128.load(d + i), sd);
  }
  let sums = sumLanes(sa, sb, sc, sd);
  for (; i < allEnd; i += 4) {
    const four = f32x4(load<f32>(a + i), load<f32>(b + i), load<f32>(c + i), load<f32>(d + i));
    sums = madd(f32x4.splat(load<f32>(x + i)), four, sums);
  }
  return sums;
}
