// nearest-kept: for every row that goes, the kept row of its head whose key points most the same way (MergingPress).
//   kept: rows order[h,i], i < counts[h];  those that go: the others of among[h,i], i < amongStride, or of all n where there is no `among`
//   cosine(e,r) = k[e].k[r] / (max(|k[e]|, 1e-6) max(|k[r]|, 1e-6))
//   target[h,e] = argmax over kept r of cosine(e,r), ties to the lower row;  similarity[h,e] = that cosine
//   all other rows, and those that have no cosine with any: target 0xffffffff, similarity -2
// in    k [n, H, d] f32      norms [H, n] f32: |k|      order [H, stride] u32      counts [H] u32      among [H, amongStride] u32, or 0
// out   target [H, n] u32      similarity [H, n] f32
// scratch nearestKeptScratchBytes(n, d), 16-byte aligned: a tile of kept keys [64 / 8, d, 8] f32; kept rows ascending, then the others ascending, [n] u32
// A tile of kept keys of length 1 lies channel by channel, eight rows beside each other, and stays in the first-level cache while all others pass over it.
import { madd } from './exp';

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

export function nearestKeptScratchBytes(n: i32, headDim: i32): usize {
  return (<usize>(TILE * headDim + n)) << 2;
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
    const kept = scratch + ((<usize>(TILE * headDim)) << 2);
    const others = kept + ((<usize>count) << 2);
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
        store<u32>(kept + ((<usize>i) << 2), t);
        i++;
      } else if (mark == GOES) {
        store<u32>(others + ((<usize>j) << 2), t);
        j++;
      }
      store<u32>(nearest + at, NONE);
      store<f32>(cosines + at, -f32.MAX_VALUE);
    }
    for (let start = 0; start < count; start += TILE) {
      const rowsHere = min(TILE, count - start);
      pack(scratch, keys, lengths, kept + ((<usize>start) << 2), rowsHere, rowBytes, headDim);
      for (let e = 0; e < going; e += 4) {
        const list = others + ((<usize>e) << 2);
        const e0 = <usize>load<u32>(list);
        const e1 = e + 1 < going ? <usize>load<u32>(list, 4) : e0; // again: the same result
        const e2 = e + 2 < going ? <usize>load<u32>(list, 8) : e0;
        const e3 = e + 3 < going ? <usize>load<u32>(list, 12) : e0;
        const x0 = keys + e0 * rowBytes;
        const x1 = keys + e1 * rowBytes;
        const x2 = keys + e2 * rowBytes;
        const x3 = keys + e3 * rowBytes;
        let best0 = f32x4.splat(-f32.MAX_VALUE),
          best1 = best0,
          best2 = best0,
          best3 = best0;
        let place0 = i32x4.splat(-1), // in the tile
          place1 = place0,
          place2 = place0,
          place3 = place0;
        let tile = scratch;
        for (let g = 0; g < rowsHere; g += 8) {
          let a0 = f32x4.splat(0),
            a1 = a0,
            a2 = a0,
            a3 = a0,
            b0 = a0,
            b1 = a0,
            b2 = a0,
            b3 = a0;
          for (let c: usize = 0; c < (<usize>headDim) << 2; c += 4, tile += 32) {
            const a = v128.load(tile);
            const b = v128.load(tile, 16);
            let x = v128.load32_splat(x0 + c);
            a0 = madd(x, a, a0);
            b0 = madd(x, b, b0);
            x = v128.load32_splat(x1 + c);
            a1 = madd(x, a, a1);
            b1 = madd(x, b, b1);
            x = v128.load32_splat(x2 + c);
            a2 = madd(x, a, a2);
            b2 = madd(x, b, b2);
            x = v128.load32_splat(x3 + c);
            a3 = madd(x, a, a3);
            b3 = madd(x, b, b3);
          }
          const first = i32x4.add(i32x4.splat(g), i32x4(0, 1, 2, 3));
          const second = i32x4.add(first, i32x4.splat(4));
          let more = f32x4.gt(a0, best0);
          best0 = v128.bitselect(a0, best0, more);
          place0 = v128.bitselect(first, place0, more);
          more = f32x4.gt(b0, best0);
          best0 = v128.bitselect(b0, best0, more);
          place0 = v128.bitselect(second, place0, more);
          more = f32x4.gt(a1, best1);
          best1 = v128.bitselect(a1, best1, more);
          place1 = v128.bitselect(first, place1, more);
          more = f32x4.gt(b1, best1);
          best1 = v128.bitselect(b1, best1, more);
          place1 = v128.bitselect(second, place1, more);
          more = f32x4.gt(a2, best2);
          best2 = v128.bitselect(a2, best2, more);
          place2 = v128.bitselect(first, place2, more);
          more = f32x4.gt(b2, best2);
          best2 = v128.bitselect(b2, best2, more);
          place2 = v128.bitselect(second, place2, more);
          more = f32x4.gt(a3, best3);
          best3 = v128.bitselect(a3, best3, more);
          place3 = v128.bitselect(first, place3, more);
          more = f32x4.gt(b3, best3);
          best3 = v128.bitselect(b3, best3, more);
          place3 = v128.bitselect(second, place3, more);
        }
        const from = kept + ((<usize>start) << 2);
        note(cosines + (e0 << 2), nearest + (e0 << 2), best0, place0, from);
        note(cosines + (e1 << 2), nearest + (e1 << 2), best1, place1, from);
        note(cosines + (e2 << 2), nearest + (e2 << 2), best2, place2, from);
        note(cosines + (e3 << 2), nearest + (e3 << 2), best3, place3, from);
      }
    }
    for (let t = 0; t < n; t++) {
      const at = (<usize>t) << 2;
      const found = load<u32>(nearest + at) != NONE;
      store<f32>(cosines + at, found ? load<f32>(cosines + at) / max<f32>(load<f32>(lengths + at), 1e-6) : -2);
    }
  }
}

/** The kept keys of a tile, of length 1: eight rows beside each other for every channel; NaN, which nothing is less than, where there are fewer. */
function pack(tile: usize, keys: usize, lengths: usize, kept: usize, rows: i32, rowBytes: usize, headDim: i32): void {
  for (let r = 0; r < ((rows + 7) & ~7); r++) {
    let to = tile + ((<usize>((r >> 3) * headDim * 8 + (r & 7))) << 2);
    if (r >= rows) {
      for (let c = 0; c < headDim; c++, to += 32) store<f32>(to, NaN);
      continue;
    }
    const row = <usize>load<u32>(kept + ((<usize>r) << 2));
    const inverse: f32 = <f32>1 / max<f32>(load<f32>(lengths + (row << 2)), 1e-6);
    let x = keys + row * rowBytes;
    for (let c = 0; c < headDim; c++, x += 4, to += 32) store<f32>(to, load<f32>(x) * inverse);
  }
}

/** The largest of four lanes, ties to the lower place, where it is more than what is there. */
// @ts-ignore: decorator
@inline function note(cosine: usize, nearest: usize, best: v128, places: v128, kept: usize): void {
  let most = f32x4.extract_lane(best, 0);
  let place = i32x4.extract_lane(places, 0);
  for (let lane = 1; lane < 4; lane++) {
    const x = lane == 1 ? f32x4.extract_lane(best, 1) : lane == 2 ? f32x4.extract_lane(best, 2) : f32x4.extract_lane(best, 3);
    const p = lane == 1 ? i32x4.extract_lane(places, 1) : lane == 2 ? i32x4.extract_lane(places, 2) : i32x4.extract_lane(places, 3);
    if (x > most || (x == most && p < place)) {
      most = x;
      place = p;
    }
  }
  if (most > load<f32>(cosine)) {
    store<f32>(cosine, most);
    store<u32>(nearest, load<u32>(kept + ((<usize>place) << 2)));
  }
}
