// attend-paged: attention of n new queries over one layer of the paged, ragged cache. Their own entries are the last n of every
// list, so query i, at position start + i, sees the first length[h] - (n - 1 - i) entries of head h, in whatever order they lie;
// with a sliding window only those at positions > start + i - slidingWindow. Formula: attend-causal.
// in   q [n, Hq, d] f32    lengths [H] u32    pageTable [H, tableStride] u32    positions [page * slotStride + slot] u32
//      pages at pool + page * pageBytes, drawn in store-entries; entry e is slot e % E of the list's (e / E)-th page
//      d a multiple of 4    (4-byte aligned)
// out  out [n, Hq, d] f32; zeros for a query that sees nothing
// scratch  attendScratchBytes(d) bytes, 16-byte aligned, the same for every n and every length
// twin wgsl/attend-paged.wgsl; same result to 1e-5 of the largest |v| (sum order differs)
//
// One query (decoding) reads K and V once for up to 8 rows of a group, rows of f32 pages where they lie. Several queries gather
// tiles of entries and go the way of attend-causal. int8 values become f32, exactly; their scale multiplies the score or the weight.
import { attendTile, closeRows, copyRow, keyRow, layRows, LEAST, openRows, Rows, ROWS, TILE, valueRow } from './attend-causal';
import { exp4, madd } from './exp';
import { ENTRY_F32, scalesAt } from './store-entries';

/** Where one head's list lies. */
@unmanaged
class Pages {
  pool: usize;
  pageBytes: usize;
  entryType: i32;
  E: i32;
  table: usize;
  positions: usize;
  slotStride: i32;
}

export function attendPaged(
  out: usize, q: usize, pool: usize, pageBytes: usize, entryType: i32, entriesPerPage: i32, lengths: usize, pageTable: usize,
  tableStride: i32, positions: usize, slotStride: i32, n: i32, start: i32, Hq: i32, H: i32, d: i32,
  scale: f32, slidingWindow: i32, scratch: usize,
): void {
  const rows = layRows(scratch, d);
  const pages = changetype<Pages>(scratch + 64);
  pages.pool = pool;
  pages.pageBytes = pageBytes;
  pages.entryType = entryType;
  pages.E = entriesPerPage;
  pages.positions = slidingWindow ? positions : 0;
  pages.slotStride = slotStride;
  const G = Hq / H;
  for (let h = 0; h < H; h++) {
    const length = load<i32>(lengths + (<usize>h << 2));
    pages.table = pageTable + (<usize>(h * tableStride) << 2);
    if (n == 1) {
      for (let g = 0; g < G; g += 8) {
        const at = <usize>((h * G + g) * d) << 2;
        decode(rows, pages, out + at, q + at, min(8, G - g), length, scale, start - slidingWindow);
      }
      continue;
    }
    for (let first = 0; first < n * G; first += ROWS) {
      const count = min(ROWS, n * G - first);
      openRows(rows, q, first, count, G, Hq, h, scale, length - n + 1, start, slidingWindow);
      const end = length - n + 1 + (first + count - 1) / G;
      for (let e = 0; e < end; e += TILE) {
        const entries = min(TILE, end - e);
        gather(rows, pages, e, entries);
        attendTile(rows, e, entries, slidingWindow > 0);
      }
      closeRows(rows, out, first, G, Hq, h);
    }
  }
}

// @ts-ignore: decorator
@inline function pageOf(pages: Pages, e: i32): i32 {
  return load<i32>(pages.table + (<usize>(<u32>e / <u32>pages.E) << 2));
}

/** Entries e0 .. e0 + entries - 1 as f32 rows of the tile, with their positions if there is a window. */
function gather(rows: Rows, pages: Pages, e0: i32, entries: i32): void {
  const d = rows.d, E = pages.E;
  for (let t = 0; t < entries; ) {
    const page = pageOf(pages, e0 + t);
    const at = pages.pool + <usize>page * pages.pageBytes;
    let slot = (e0 + t) % E;
    const end = min(E, slot + entries - t);
    for (; slot < end; slot++, t++) {
      if (pages.entryType == ENTRY_F32) {
        copyRow(keyRow(rows, t), at + (<usize>(slot * d) << 2), d);
        copyRow(valueRow(rows, t), at + (<usize>((E + slot) * d) << 2), d);
      } else {
        const scales = at + scalesAt(E, d) + (<usize>slot << 2);
        widenRow(keyRow(rows, t), at + <usize>(slot * d), d, load<f32>(scales));
        widenRow(valueRow(rows, t), at + <usize>((E + slot) * d), d, load<f32>(scales + (<usize>E << 2)));
      }
      if (pages.positions) store<i32>(rows.positions + (<usize>t << 2), load<i32>(pages.positions + (<usize>(page * pages.slotStride + slot) << 2)));
    }
  }
}

/** to [d] f32 = from [d] i8 * scale. */
// @ts-ignore: decorator
@inline function widenRow(to: usize, from: usize, d: i32, scale: f32): void {
  const scales = f32x4.splat(scale);
  const end = from + <usize>(d & ~7);
  for (; from < end; from += 8, to += 32) {
    const words = v128.load8x8_s(from);
    v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(words)), scales));
    v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(words)), scales), 16);
  }
  if (d & 4) {
    const words = i16x8.extend_low_i8x16_s(v128.load32_zero(from));
    v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(words)), scales));
  }
}

// @ts-ignore: decorator
@inline const P_STRIDE: usize = <usize>(TILE + 4) * 4; // four scores are written at a time

/** `count` <= 8 rows of one query over the whole list; only entries at positions > low count if there is a window. */
function decode(rows: Rows, pages: Pages, out: usize, q: usize, count: i32, length: i32, scale: f32, low: i32): void {
  const d = rows.d, E = pages.E;
  const width = <usize>d << 2;
  const sums = rows.sums;
  for (let at: usize = 0; at < <usize>count * width; at += 16) {
    v128.store(rows.queries + at, f32x4.mul(v128.load(q + at), f32x4.splat(scale)));
    v128.store(sums + at, f32x4.splat(0));
  }
  for (let g = 0; g < count; g++) {
    store<f32>(rows.most + (<usize>g << 2), LEAST);
    store<f32>(rows.total + (<usize>g << 2), 0);
  }
  const f32Pages = pages.entryType == ENTRY_F32;
  const tile = E < TILE ? TILE - (TILE % E) : TILE; // whole pages where they fit
  for (let e0 = 0; e0 < length; e0 += tile) {
    const entries = min(tile, length - e0);
    if (!f32Pages) gather(rows, pages, e0, entries);
    for (let t = 0, part = 0; t < entries; t += part) {
      const slot = (e0 + t) % E;
      part = f32Pages ? min(E - slot, entries - t) : entries;
      const k = f32Pages ? pages.pool + <usize>pageOf(pages, e0 + t) * pages.pageBytes + <usize>slot * width : rows.k;
      for (let g = 0; g < count; g += 2) {
        const p = rows.p + <usize>g * P_STRIDE + (<usize>t << 2);
        const query = rows.queries + <usize>g * width;
        if (g + 1 < count) dotTwo(p, query, k, part, width);
        else dotOne(p, query, k, part, width);
      }
    }
    if (pages.positions) hideOld(rows, pages, count, e0, entries, low);
    for (let g = 0; g < count; g++) softmaxRow(rows, g, entries);
    for (let t = 0, part = 0; t < entries; t += part) {
      const slot = (e0 + t) % E;
      part = f32Pages ? min(E - slot, entries - t) : entries;
      const v = f32Pages ? pages.pool + <usize>pageOf(pages, e0 + t) * pages.pageBytes + <usize>(E + slot) * width : rows.v;
      const stride = f32Pages ? width : <usize>(d + 16) << 2;
      for (let g = 0; g < count; g += 2) {
        const p = rows.p + <usize>g * P_STRIDE + (<usize>t << 2);
        if (g + 1 < count) addTwo(sums + <usize>g * width, p, v, stride, part, width);
        else addOne(sums + <usize>g * width, p, v, stride, part, width);
      }
    }
  }
  for (let g = 0; g < count; g++) {
    const total = load<f32>(rows.total + (<usize>g << 2));
    const inverse = f32x4.splat(total == 0 ? 0 : <f32>1 / total);
    for (let at = <usize>g * width; at < <usize>(g + 1) * width; at += 16) v128.store(out + at, f32x4.mul(v128.load(sums + at), inverse));
  }
}

/** The four lane sums of a, b, c, d. */
// @ts-ignore: decorator
@inline function laneSums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(i32x4.shuffle(c, d, 0, 4, 1, 5), i32x4.shuffle(c, d, 2, 6, 3, 7));
  return f32x4.add(i32x4.shuffle(ab, cd, 0, 1, 4, 5), i32x4.shuffle(ab, cd, 2, 3, 6, 7));
}

/** p[0, t] = q[0].k[t], p[1, t] = q[1].k[t]; four keys at a time, keys past the last repeat it. */
function dotTwo(p: usize, q: usize, k: usize, keys: i32, width: usize): void {
  const last = k + <usize>(keys - 1) * width;
  for (; k <= last; k += 4 * width, p += 16) {
    const k1 = min(k + width, last) - k, k2 = min(k + 2 * width, last) - k, k3 = min(k + 3 * width, last) - k;
    let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
    let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
    const end = k + width;
    for (let x = k, y = q; x < end; x += 16, y += 16) {
      const q0 = v128.load(y), q1 = v128.load(y + width);
      let key = v128.load(x);
      a0 = madd(q0, key, a0);
      b0 = madd(q1, key, b0);
      key = v128.load(x + k1);
      a1 = madd(q0, key, a1);
      b1 = madd(q1, key, b1);
      key = v128.load(x + k2);
      a2 = madd(q0, key, a2);
      b2 = madd(q1, key, b2);
      key = v128.load(x + k3);
      a3 = madd(q0, key, a3);
      b3 = madd(q1, key, b3);
    }
    v128.store(p, laneSums(a0, a1, a2, a3));
    v128.store(p + P_STRIDE, laneSums(b0, b1, b2, b3));
  }
}

function dotOne(p: usize, q: usize, k: usize, keys: i32, width: usize): void {
  const last = k + <usize>(keys - 1) * width;
  for (; k <= last; k += 4 * width, p += 16) {
    const k1 = min(k + width, last) - k, k2 = min(k + 2 * width, last) - k, k3 = min(k + 3 * width, last) - k;
    let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
    const end = k + width;
    for (let x = k, y = q; x < end; x += 16, y += 16) {
      const q0 = v128.load(y);
      a0 = madd(q0, v128.load(x), a0);
      a1 = madd(q0, v128.load(x + k1), a1);
      a2 = madd(q0, v128.load(x + k2), a2);
      a3 = madd(q0, v128.load(x + k3), a3);
    }
    v128.store(p, laneSums(a0, a1, a2, a3));
  }
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
  if (most == old) return;
  const width = <usize>rows.d << 2;
  for (let at = rows.sums + <usize>g * width, last = at + width; at < last; at += 16) v128.store(at, f32x4.mul(v128.load(at), shrink));
}

/** sums[0, c] += sum over t of p[0, t] v[t, c], and so sums[1, c] from p[1]; 16 columns at a time. */
function addTwo(sums: usize, p: usize, v: usize, stride: usize, keys: i32, width: usize): void {
  const end = p + (<usize>keys << 2);
  let at: usize = 0;
  for (; at + 64 <= width; at += 64) {
    let a0 = v128.load(sums + at), a1 = v128.load(sums + at, 16), a2 = v128.load(sums + at, 32), a3 = v128.load(sums + at, 48);
    let b0 = v128.load(sums + width + at), b1 = v128.load(sums + width + at, 16), b2 = v128.load(sums + width + at, 32), b3 = v128.load(sums + width + at, 48);
    for (let x = p, row = v + at; x < end; x += 4, row += stride) {
      const p0 = v128.load32_splat(x), p1 = v128.load32_splat(x, P_STRIDE);
      let value = v128.load(row);
      a0 = madd(p0, value, a0);
      b0 = madd(p1, value, b0);
      value = v128.load(row, 16);
      a1 = madd(p0, value, a1);
      b1 = madd(p1, value, b1);
      value = v128.load(row, 32);
      a2 = madd(p0, value, a2);
      b2 = madd(p1, value, b2);
      value = v128.load(row, 48);
      a3 = madd(p0, value, a3);
      b3 = madd(p1, value, b3);
    }
    v128.store(sums + at, a0); v128.store(sums + at, a1, 16); v128.store(sums + at, a2, 32); v128.store(sums + at, a3, 48);
    v128.store(sums + width + at, b0); v128.store(sums + width + at, b1, 16); v128.store(sums + width + at, b2, 32); v128.store(sums + width + at, b3, 48);
  }
  if (at < width) {
    addColumns(sums, p, v, stride, end, at, width);
    addColumns(sums + width, p + P_STRIDE, v, stride, end + P_STRIDE, at, width);
  }
}

function addOne(sums: usize, p: usize, v: usize, stride: usize, keys: i32, width: usize): void {
  const end = p + (<usize>keys << 2);
  let at: usize = 0;
  for (; at + 64 <= width; at += 64) {
    let a0 = v128.load(sums + at), a1 = v128.load(sums + at, 16), a2 = v128.load(sums + at, 32), a3 = v128.load(sums + at, 48);
    for (let x = p, row = v + at; x < end; x += 4, row += stride) {
      const weight = v128.load32_splat(x);
      a0 = madd(weight, v128.load(row), a0);
      a1 = madd(weight, v128.load(row, 16), a1);
      a2 = madd(weight, v128.load(row, 32), a2);
      a3 = madd(weight, v128.load(row, 48), a3);
    }
    v128.store(sums + at, a0); v128.store(sums + at, a1, 16); v128.store(sums + at, a2, 32); v128.store(sums + at, a3, 48);
  }
  addColumns(sums, p, v, stride, end, at, width);
}

/** The columns from byte `at` on, four at a time. */
function addColumns(sums: usize, p: usize, v: usize, stride: usize, end: usize, at: usize, width: usize): void {
  for (; at < width; at += 16) {
    let a = v128.load(sums + at);
    for (let x = p, row = v + at; x < end; x += 4, row += stride) a = madd(v128.load32_splat(x), v128.load(row), a);
    v128.store(sums + at, a);
  }
}
