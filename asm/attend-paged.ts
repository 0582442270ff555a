// attend-paged: attention of n new queries over one layer of the paged, ragged cache. Their own entries are the last n of every
// list, so query i, at position start + i, sees the first length[h] - (n - 1 - i) entries of head h, in whatever order they lie;
// with a sliding window only those at positions > start + i - slidingWindow. Formula: attend-causal.
// in   q [n, Hq, d] f32    lengths [H] u32    pageTable [H, tableStride] u32    positions [page * slotStride + slot] u32
//      pages at pool + page * pageBytes, drawn in store-entries; entry e is slot e % E of the list's (e / E)-th page
//      d a multiple of 4    (4-byte aligned)
// out  out [n, Hq, d] f32; zeros for a query that sees nothing
// scratch  attendScratchBytes(d) bytes, 16-byte aligned, the same for every n and every length
// twin wgsl/attend-paged.wgsl; same result to 1e-5 of the largest |v| (sum order differs), to 1e-4 for one query over int8 pages
//
// One query (decoding) reads K and V where they lie, once for up to 8 rows of a group. Over int8 pages its q and its weights are
// 16-bit steps; the error of that stands below. Several queries gather tiles of entries, int8 ones as value * scale in f32, and
// go the way of attend-causal.
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
  const int8 = pages.entryType != ENTRY_F32;
  const rowBytes = int8 ? <usize>d : width;
  const scales = scalesAt(E, d);
  for (let g = 0; g < count; g++) {
    const at = <usize>g * width;
    store<f32>(rows.most + (<usize>g << 2), LEAST);
    store<f32>(rows.total + (<usize>g << 2), 0);
    scaleRow(rows.queries + at, q + at, f32x4.splat(scale), width);
    if (int8) store<f32>(queryStep(rows, g), narrowQuery(rows.queries + at, d));
    memory.fill(rows.sums + at, 0, width);
  }
  const tile = E < TILE ? TILE - (TILE % E) : TILE; // whole pages where they fit
  for (let e0 = 0; e0 < length; e0 += tile) {
    const entries = min(tile, length - e0);
    for (let t = 0, part = 0; t < entries; t += part) {
      const slot = (e0 + t) % E;
      const page = pages.pool + <usize>pageOf(pages, e0 + t) * pages.pageBytes;
      part = min(E - slot, entries - t);
      if (!int8) {
        const bytes = <usize>part * rowBytes;
        rows.count = touch(page + <usize>slot * rowBytes, bytes) ^ touch(page + <usize>(E + slot) * rowBytes, bytes); // kept, or the loads might go
      }
      for (let g = 0; g < count; g += 2) {
        const two = g + 1 < count;
        const p = rows.p + <usize>g * P_STRIDE + (<usize>t << 2);
        const query = rows.queries + <usize>g * width;
        const k = page + <usize>slot * rowBytes;
        if (int8) {
          const scale = page + scales + (<usize>slot << 2);
          if (two) dotTwoInt8(p, query, queryStep(rows, g), k, scale, part, d);
          else dotOneInt8(p, query, queryStep(rows, g), k, scale, part, d);
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
      for (let g = 0; g < count; g += 2) {
        const two = g + 1 < count;
        const p = rows.p + <usize>g * P_STRIDE + (<usize>t << (int8 ? 1 : 2));
        const sums = rows.sums + <usize>g * width;
        const v = page + <usize>(E + slot) * rowBytes;
        if (int8) {
          if (two) addTwoInt8(sums, p, weightStep(rows, g), v, part, d);
          else addOneInt8(sums, p, weightStep(rows, g), v, part, d);
        } else if (two) addTwo(sums, p, v, part, width);
        else addOne(sums, p, v, part, width);
      }
    }
  }
  for (let g = 0; g < count; g++) {
    const total = load<f32>(rows.total + (<usize>g << 2));
    scaleRow(out + <usize>g * width, rows.sums + <usize>g * width, f32x4.splat(total == 0 ? 0 : <f32>1 / total), width);
  }
}

/**
 * Reads a word of every cache line, in order: memory then streams where the loops below would wait row by row. Between two
 * tokens the weights pass through the cache, so pages are cold. 33 MB of f32 pages: 6.5 -> 3.6 ms; in cache 10% slower; int8 the same.
 */
// @ts-ignore: decorator
@inline function touch(from: usize, bytes: usize): i32 {
  let bits = 0;
  for (const end = from + bytes; from < end; from += 64) bits ^= load<i32>(from);
  return bits;
}

/** to = from * factor, `width` bytes of f32; to may be from. */
// @ts-ignore: decorator
@inline function scaleRow(to: usize, from: usize, factor: v128, width: usize): void {
  for (const end = from + width; from < end; from += 16, to += 16) v128.store(to, f32x4.mul(v128.load(from), factor));
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
  const width = <usize>rows.d << 2;
  const sums = rows.sums + <usize>g * width;
  if (most != old) scaleRow(sums, sums, shrink, width);
}

/** sums[0, c] += sum over t of p[0, t] v[t, c], and so sums[1, c] from p[1]; 16 columns at a time. (Two entries a turn: 7% slower.) */
function addTwo(sums: usize, p: usize, v: usize, keys: i32, width: usize): void {
  const end = p + (<usize>keys << 2);
  let at: usize = 0;
  for (; at + 64 <= width; at += 64) {
    let a0 = v128.load(sums + at), a1 = v128.load(sums + at, 16), a2 = v128.load(sums + at, 32), a3 = v128.load(sums + at, 48);
    let b0 = v128.load(sums + width + at), b1 = v128.load(sums + width + at, 16), b2 = v128.load(sums + width + at, 32), b3 = v128.load(sums + width + at, 48);
    for (let x = p, row = v + at; x < end; x += 4, row += width) {
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
    addColumns(sums, p, v, end, at, width);
    addColumns(sums + width, p + P_STRIDE, v, end + P_STRIDE, at, width);
  }
}

function addOne(sums: usize, p: usize, v: usize, keys: i32, width: usize): void {
  const end = p + (<usize>keys << 2);
  let at: usize = 0;
  for (; at + 64 <= width; at += 64) {
    let a0 = v128.load(sums + at), a1 = v128.load(sums + at, 16), a2 = v128.load(sums + at, 32), a3 = v128.load(sums + at, 48);
    for (let x = p, row = v + at; x < end; x += 4, row += width) {
      const weight = v128.load32_splat(x);
      a0 = madd(weight, v128.load(row), a0);
      a1 = madd(weight, v128.load(row, 16), a1);
      a2 = madd(weight, v128.load(row, 32), a2);
      a3 = madd(weight, v128.load(row, 48), a3);
    }
    v128.store(sums + at, a0); v128.store(sums + at, a1, 16); v128.store(sums + at, a2, 32); v128.store(sums + at, a3, 48);
  }
  addColumns(sums, p, v, end, at, width);
}

/** The columns from byte `at` on, four at a time. */
function addColumns(sums: usize, p: usize, v: usize, end: usize, at: usize, width: usize): void {
  for (; at < width; at += 16) {
    let a = v128.load(sums + at);
    for (let x = p, row = v + at; x < end; x += 4, row += width) a = madd(v128.load32_splat(x), v128.load(row), a);
    v128.store(sums + at, a);
  }
}

// int8, one query: q and the weights become i16 steps, so that products are sums of i16 pairs in i32.
//   score[j] = kScale[j] qStep (k8[j].q16),  qStep = max |q| / most: the rounding of q moves a score by at most sqrt(d) / 258, typically
//   1 / 258, of what the rounding of K to int8 already has
//   sums[c] += wStep sum over j of w16[j] v8[j, c],  w[j] = e^(s_j - m) vScale[j],  wStep = max w / 32767 in a tile: 2^-16 of the
//   tile's largest term each, against the 2^-8 of V's own rounding

/** Where the steps of q and of the weights lie: the rows' limits and lows are free here. */
// @ts-ignore: decorator
@inline function queryStep(rows: Rows, g: i32): usize {
  return rows.limit + (<usize>g << 2);
}

// @ts-ignore: decorator
@inline function weightStep(rows: Rows, g: i32): usize {
  return rows.low + (<usize>g << 2);
}

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

function narrowQuery(q: usize, d: i32): f32 {
  return narrow(q, d, <f32>min(32767, 16909320 / d)); // 127 * 16909320 < 2^31: the sum over d stays an i32
}

/** Each row's e^(s - m), times the V scale of its entry, to i16 in its place. */
function narrowWeights(rows: Rows, pages: Pages, count: i32, e0: i32, entries: i32): void {
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
  for (let g = 0; g < count; g++) store<f32>(weightStep(rows, g), narrow(rows.p + <usize>g * P_STRIDE, entries, 32767));
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
function dotTwoInt8(p: usize, q: usize, steps: usize, k: usize, scales: usize, keys: i32, d: i32): void {
  const step0 = v128.load32_splat(steps), step1 = v128.load32_splat(steps, 4);
  const apart = <usize>d << 2;
  for (let left = keys - 1; left >= 0; left -= 4, k += 4 * <usize>d, scales += 16, p += 16) {
    const n1 = <usize>min(1, left), n2 = <usize>min(2, left), n3 = <usize>min(3, left);
    const k1 = n1 * <usize>d, k2 = n2 * <usize>d, k3 = n3 * <usize>d;
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
    let x = k, y = q;
    for (const end = k + <usize>(d & ~7); x < end; x += 8, y += 16) {
      const q0 = v128.load(y), q1 = v128.load(y + apart);
      let key = v128.load8x8_s(x);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(q0, key));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(q1, key));
      key = v128.load8x8_s(x + k1);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(q0, key));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(q1, key));
      key = v128.load8x8_s(x + k2);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(q0, key));
      b2 = i32x4.add(b2, i32x4.dot_i16x8_s(q1, key));
      key = v128.load8x8_s(x + k3);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(q0, key));
      b3 = i32x4.add(b3, i32x4.dot_i16x8_s(q1, key));
    }
    if (d & 4) {
      const q0 = v128.load64_zero(y), q1 = v128.load64_zero(y + apart);
      let key = fourBytes(x);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(q0, key));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(q1, key));
      key = fourBytes(x + k1);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(q0, key));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(q1, key));
      key = fourBytes(x + k2);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(q0, key));
      b2 = i32x4.add(b2, i32x4.dot_i16x8_s(q1, key));
      key = fourBytes(x + k3);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(q0, key));
      b3 = i32x4.add(b3, i32x4.dot_i16x8_s(q1, key));
    }
    const scale = scalesOf(scales, n1, n2, n3);
    v128.store(p, f32x4.mul(f32x4.convert_i32x4_s(laneSumsI32(a0, a1, a2, a3)), f32x4.mul(scale, step0)));
    v128.store(p + P_STRIDE, f32x4.mul(f32x4.convert_i32x4_s(laneSumsI32(b0, b1, b2, b3)), f32x4.mul(scale, step1)));
  }
}

function dotOneInt8(p: usize, q: usize, steps: usize, k: usize, scales: usize, keys: i32, d: i32): void {
  const step0 = v128.load32_splat(steps);
  for (let left = keys - 1; left >= 0; left -= 4, k += 4 * <usize>d, scales += 16, p += 16) {
    const n1 = <usize>min(1, left), n2 = <usize>min(2, left), n3 = <usize>min(3, left);
    const k1 = n1 * <usize>d, k2 = n2 * <usize>d, k3 = n3 * <usize>d;
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let x = k, y = q;
    for (const end = k + <usize>(d & ~7); x < end; x += 8, y += 16) {
      const q0 = v128.load(y);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(q0, v128.load8x8_s(x)));
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(q0, v128.load8x8_s(x + k1)));
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(q0, v128.load8x8_s(x + k2)));
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(q0, v128.load8x8_s(x + k3)));
    }
    if (d & 4) {
      const q0 = v128.load64_zero(y);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(q0, fourBytes(x)));
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(q0, fourBytes(x + k1)));
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(q0, fourBytes(x + k2)));
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(q0, fourBytes(x + k3)));
    }
    const scale = scalesOf(scales, n1, n2, n3);
    v128.store(p, f32x4.mul(f32x4.convert_i32x4_s(laneSumsI32(a0, a1, a2, a3)), f32x4.mul(scale, step0)));
  }
}

/** Four scales; never reads past the last one asked for. */
// @ts-ignore: decorator
@inline function scalesOf(scales: usize, n1: usize, n2: usize, n3: usize): v128 {
  if (n3 == 3) return v128.load(scales);
  return f32x4(load<f32>(scales), load<f32>(scales + (n1 << 2)), load<f32>(scales + (n2 << 2)), load<f32>(scales + (n3 << 2)));
}

/** As addTwo; w i16, `steps` f32. Entries go in pairs, the last of an odd count with a weight of 0 for its twin. */
function addTwoInt8(sums: usize, w: usize, steps: usize, v: usize, keys: i32, d: i32): void {
  const width = <usize>d;
  const step0 = v128.load32_splat(steps), step1 = v128.load32_splat(steps, 4);
  const other = sums + (width << 2);
  let c: usize = 0;
  for (; c + 16 <= width; c += 16) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
    let row = v + c, x = w;
    for (let left = keys; left > 0; left -= 2, row += 2 * width, x += 4) {
      const twin = row + (left > 1 ? width : 0);
      const mask = i32x4.splat(left > 1 ? -1 : 0xffff);
      const w0 = v128.and(v128.load32_splat(x), mask), w1 = v128.and(v128.load32_splat(x, P_STRIDE), mask);
      let one = v128.load8x8_s(row), two = v128.load8x8_s(twin);
      let pairs = i16x8.shuffle(one, two, 0, 8, 1, 9, 2, 10, 3, 11);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(pairs, w0));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(pairs, w1));
      pairs = i16x8.shuffle(one, two, 4, 12, 5, 13, 6, 14, 7, 15);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(pairs, w0));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(pairs, w1));
      one = v128.load8x8_s(row, 8);
      two = v128.load8x8_s(twin, 8);
      pairs = i16x8.shuffle(one, two, 0, 8, 1, 9, 2, 10, 3, 11);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(pairs, w0));
      b2 = i32x4.add(b2, i32x4.dot_i16x8_s(pairs, w1));
      pairs = i16x8.shuffle(one, two, 4, 12, 5, 13, 6, 14, 7, 15);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(pairs, w0));
      b3 = i32x4.add(b3, i32x4.dot_i16x8_s(pairs, w1));
    }
    const at = c << 2;
    addSteps(sums + at, a0, step0); addSteps(sums + at + 16, a1, step0); addSteps(sums + at + 32, a2, step0); addSteps(sums + at + 48, a3, step0);
    addSteps(other + at, b0, step1); addSteps(other + at + 16, b1, step1); addSteps(other + at + 32, b2, step1); addSteps(other + at + 48, b3, step1);
  }
  addColumnsInt8(sums, w, step0, v, keys, c, width);
  addColumnsInt8(other, w + P_STRIDE, step1, v, keys, c, width);
}

function addOneInt8(sums: usize, w: usize, steps: usize, v: usize, keys: i32, d: i32): void {
  const width = <usize>d;
  const step0 = v128.load32_splat(steps);
  let c: usize = 0;
  for (; c + 16 <= width; c += 16) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let row = v + c, x = w;
    for (let left = keys; left > 0; left -= 2, row += 2 * width, x += 4) {
      const twin = row + (left > 1 ? width : 0);
      const w0 = v128.and(v128.load32_splat(x), i32x4.splat(left > 1 ? -1 : 0xffff));
      let one = v128.load8x8_s(row), two = v128.load8x8_s(twin);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(i16x8.shuffle(one, two, 0, 8, 1, 9, 2, 10, 3, 11), w0));
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(i16x8.shuffle(one, two, 4, 12, 5, 13, 6, 14, 7, 15), w0));
      one = v128.load8x8_s(row, 8);
      two = v128.load8x8_s(twin, 8);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(i16x8.shuffle(one, two, 0, 8, 1, 9, 2, 10, 3, 11), w0));
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(i16x8.shuffle(one, two, 4, 12, 5, 13, 6, 14, 7, 15), w0));
    }
    const at = c << 2;
    addSteps(sums + at, a0, step0); addSteps(sums + at + 16, a1, step0); addSteps(sums + at + 32, a2, step0); addSteps(sums + at + 48, a3, step0);
  }
  addColumnsInt8(sums, w, step0, v, keys, c, width);
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
