// attend-paged: attention of n new queries over one layer of the paged, ragged cache. Their own entries are the last n of every
// list, so query i, at position start + i, sees the first length[h] - (n - 1 - i) entries of head h, in whatever order they lie;
// with a sliding window only those at positions > start + i - slidingWindow. Formula: attend-causal.
// in   q [n, Hq, d] f32    lengths [H] u32    pageTable [H, tableStride] u32    positions [page * slotStride + slot] u32
//      pages at pool + page * pageBytes, drawn in entry-page
//      d a multiple of 4    (4-byte aligned)
// out  out [n, Hq, d] f32; zeros for a query that sees nothing
// scratch  attendScratchBytes(d) bytes, 16-byte aligned, the same for every n and every length
// One query over int8 pages rounds q and the weights (attend-decode-int8): within 1e-4 of the largest |v| of the f64 result, else 1e-5.
//
// One query (decoding) reads K and V where they lie: attend-decode. Several queries gather tiles of entries, as f32 (int8 ones
// value * scale), and go the way of attend-causal.
import { decode } from './attend-decode';
import { closeRows, copyRow, keyRow, layRows, openRows, PAGES_AT, Rows, ROWS, TILE, valueRow } from './attend-rows';
import { attendTile } from './attend-tile';
import { ENTRY_F16, ENTRY_F32, pageOf, Pages, rowBytesOf, scalesAt } from './entry-page';
import { load4Entries } from './half';

export function attendPaged(
  out: usize, q: usize, pool: usize, pageBytes: usize, entryType: i32, entriesPerPage: i32, lengths: usize, pageTable: usize,
  tableStride: i32, positions: usize, slotStride: i32, n: i32, start: i32, Hq: i32, H: i32, d: i32,
  scale: f32, slidingWindow: i32, scratch: usize,
): void {
  const rows = layRows(scratch, d);
  const pages = changetype<Pages>(scratch + PAGES_AT);
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

/** Entries e0 .. e0 + entries - 1 as f32 rows of the tile, with their positions if there is a window. */
function gather(rows: Rows, pages: Pages, e0: i32, entries: i32): void {
  const d = rows.d, E = pages.E;
  const width = rowBytesOf(pages.entryType, d);
  for (let t = 0; t < entries; ) {
    const page = pageOf(pages, e0 + t);
    const at = pages.pool + <usize>page * pages.pageBytes;
    let slot = (e0 + t) % E;
    const end = min(E, slot + entries - t);
    for (; slot < end; slot++, t++) {
      const k = at + <usize>slot * width, v = at + <usize>(E + slot) * width;
      if (pages.entryType == ENTRY_F32) {
        copyRow(keyRow(rows, t), k, d);
        copyRow(valueRow(rows, t), v, d);
      } else if (pages.entryType == ENTRY_F16) {
        widenHalves(keyRow(rows, t), k, d);
        widenHalves(valueRow(rows, t), v, d);
      } else {
        const scales = at + scalesAt(E, d) + (<usize>slot << 2);
        widenRow(keyRow(rows, t), k, d, load<f32>(scales));
        widenRow(valueRow(rows, t), v, d, load<f32>(scales + (<usize>E << 2)));
      }
      if (pages.positions) store<i32>(rows.positions + (<usize>t << 2), load<i32>(pages.positions + (<usize>(page * pages.slotStride + slot) << 2)));
    }
  }
}

/** to [d] f32 = from [d] f16. */
// @ts-ignore: decorator
@inline function widenHalves(to: usize, from: usize, d: i32): void {
  const end = from + (<usize>d << 1);
  for (; from < end; from += 8, to += 16) v128.store(to, load4Entries(from));
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
