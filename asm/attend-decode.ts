// attend-decode: attention of one query over one head's pages, read where they lie and once for up to 8 rows (query heads) of the group.
// Formula: attend-causal. A tile of entries at a time: scores, softmax with a running maximum, weighted sum.
// in   q [count, d] f32    pages: entry-page    (4-byte aligned)
// out  out [count, d] f32; zeros where nothing is seen
// scratch  rows of attend-rows: p, queries, sums, most, total; with int8 pages the steps, with f16 pages k and v too
// The products are those of attend-decode-f32, which f16 pages are widened for, or of attend-decode-int8 with q and the weights as 16-bit integers.
import { addOne, addTwo, dotOne, dotTwo, touch } from './attend-decode-f32';
import { widenPart } from './attend-decode-f16';
import { addOneInt8, addTwoInt8, dotOneInt8, dotTwoInt8, narrowQuery, narrowWeights } from './attend-decode-int8';
import { LEAST, P_STRIDE, Rows, TILE } from './attend-rows';
import { ENTRY_F16, ENTRY_INT8, pageOf, Pages, rowBytesOf, scalesAt } from './entry-page';
import { exp4 } from './exp';

/** `count` <= 8 rows of one query over the whole list; only entries at positions > low count if there is a window. */
export function decode(rows: Rows, pages: Pages, out: usize, q: usize, count: i32, length: i32, scale: f32, low: i32): void {
  const d = rows.d, E = pages.E;
  const width = <usize>d << 2;
  const int8 = pages.entryType == ENTRY_INT8;
  const f16 = pages.entryType == ENTRY_F16;
  const rowBytes = rowBytesOf(pages.entryType, d);
  const scales = scalesAt(E, d);
  for (let g = 0; g < count; g++) {
    const at = <usize>g * width;
    store<f32>(rows.most + (<usize>g << 2), LEAST);
    store<f32>(rows.total + (<usize>g << 2), 0);
    scaleRow(rows.queries + at, q + at, f32x4.splat(scale), width);
    if (int8) store<f32>(rows.querySteps + (<usize>g << 2), narrowQuery(rows.queries + at, d));
    memory.fill(rows.sums + at, 0, width);
  }
  let bad = false; // a NaN in f16 pages; with f32 and int8 pages it makes its own way
  const tile = E < TILE ? TILE - (TILE % E) : TILE; // whole pages where they fit
  for (let e0 = 0; e0 < length; e0 += tile) {
    const entries = min(tile, length - e0);
    for (let t = 0, part = 0; t < entries; t += part) {
      const slot = (e0 + t) % E;
      const page = pages.pool + <usize>pageOf(pages, e0 + t) * pages.pageBytes;
      part = min(E - slot, entries - t);
      const bytes = <usize>part * rowBytes;
      let k = page + <usize>slot * rowBytes;
      if (f16) {
        if (widenPart(rows.k, k, bytes)) bad = true;
        k = rows.k;
      } else if (!int8) {
        rows.sink = touch(page + <usize>slot * rowBytes, bytes) ^ touch(page + <usize>(E + slot) * rowBytes, bytes);
      }
      for (let g = 0; g < count; g += 2) {
        const two = g + 1 < count;
        const p = rows.p + <usize>g * P_STRIDE + (<usize>t << 2);
        const query = rows.queries + <usize>g * width;
        if (int8) {
          const scale = page + scales + (<usize>slot << 2);
          const steps = rows.querySteps + (<usize>g << 2);
          if (two) dotTwoInt8(p, query, steps, k, scale, part, d);
          else dotOneInt8(p, query, steps, k, scale, part, d);
        } else if (two) dotTwo(p, query, k, part, width);
        else dotOne(p, query, k, part, width);
      }
    }
    if (pages.positions) hideOld(rows, pages, count, e0, entries, low);
    for (let g = 0; g < count; g++) softmaxRow(rows, g, entries);
    if (int8) narrowWeights(rows, pages, count, e0, entries);
    for (let t = 0, part = 0; t < entries; t += part) {
      const slot = (e0 + t) % E;
      const page = pages.pool + <usize>pageOf(pages, e0 + t) * pages.pageBytes;
      part = min(E - slot, entries - t);
      let v = page + <usize>(E + slot) * rowBytes;
      if (f16) {
        if (widenPart(rows.v, v, <usize>part * rowBytes)) bad = true;
        v = rows.v;
      }
      for (let g = 0; g < count; g += 2) {
        const two = g + 1 < count;
        const p = rows.p + <usize>g * P_STRIDE + (<usize>t << (int8 ? 1 : 2));
        const sums = rows.sums + <usize>g * width;
        if (int8) {
          const steps = rows.weightSteps + (<usize>g << 2);
          if (two) addTwoInt8(sums, p, steps, v, part, d);
          else addOneInt8(sums, p, steps, v, part, d);
        } else if (two) addTwo(sums, p, v, part, width);
        else addOne(sums, p, v, part, width);
      }
    }
  }
  for (let g = 0; g < count; g++) {
    const total: f32 = bad ? NaN : load<f32>(rows.total + (<usize>g << 2));
    scaleRow(out + <usize>g * width, rows.sums + <usize>g * width, f32x4.splat(total == 0 ? 0 : <f32>1 / total), width);
  }
}

/** to = from * factor, `width` bytes of f32; to may be from. */
// @ts-ignore: decorator
@inline function scaleRow(to: usize, from: usize, factor: v128, width: usize): void {
  for (const end = from + width; from < end; from += 16, to += 16) v128.store(to, f32x4.mul(v128.load(from), factor));
}

/** Scores of entries at positions <= low become -infinity in every row. */
function hideOld(rows: Rows, pages: Pages, count: i32, e0: i32, entries: i32, low: i32): void {
  for (let t = 0; t < entries; t++) {
    const e = e0 + t;
    if (load<i32>(pages.positions + (<usize>(pageOf(pages, e) * pages.slotStride + (e % pages.E)) << 2)) > low) continue;
    for (let g = 0; g < count; g++) store<f32>(rows.p + <usize>g * P_STRIDE + (<usize>t << 2), -Infinity);
  }
}

/** Row g's scores become e^(s - most); its running sums shrink to the new maximum. */
function softmaxRow(rows: Rows, g: i32, entries: i32): void {
  const first = rows.p + <usize>g * P_STRIDE;
  const end = first + (<usize>entries << 2);
  for (let p = end; (p - first) & 15; p += 4) store<f32>(p, -Infinity);
  const mostAt = rows.most + (<usize>g << 2), totalAt = rows.total + (<usize>g << 2);
  const old = load<f32>(mostAt);
  let m = f32x4.splat(old);
  for (let p = first; p < end; p += 16) m = f32x4.pmax(m, v128.load(p));
  m = f32x4.pmax(m, i32x4.shuffle(m, m, 2, 3, 0, 1));
  m = f32x4.pmax(m, i32x4.shuffle(m, m, 1, 0, 3, 2));
  let total = f32x4.splat(0);
  for (let p = first; p < end; p += 16) {
    const e = exp4(f32x4.sub(v128.load(p), m));
    total = f32x4.add(total, e);
    v128.store(p, e);
  }
  total = f32x4.add(total, i32x4.shuffle(total, total, 2, 3, 0, 1));
  total = f32x4.add(total, i32x4.shuffle(total, total, 1, 0, 3, 2));
  const most = f32x4.extract_lane(m, 0);
  const shrink = exp4(f32x4.sub(f32x4.splat(old), m));
  store<f32>(mostAt, most);
  store<f32>(totalAt, load<f32>(totalAt) * f32x4.extract_lane(shrink, 0) + f32x4.extract_lane(total, 0));
  const width = <usize>rows.d << 2;
  const sums = rows.sums + <usize>g * width;
  if (most != old) scaleRow(sums, sums, shrink, width);
}
