// read-entries: entries of the cache as f32 rows again, whichever list they are in: the inverse of store-entries.
// in   places [count] u32: page * E + slot of each entry    pages at pool + page * pageBytes, drawn in entry-page
// out  k, v [count, d] f32, 16-byte aligned: f32 rows bit for bit, f16 exactly (NaN stays NaN), int8 rows value * scale
import { ENTRY_F16, ENTRY_F32, rowBytesOf, scalesAt } from './entry-page';
import { load4Entries } from './half';

export function readEntries(
  k: usize, v: usize, pool: usize, pageBytes: usize, entryType: i32, entriesPerPage: i32, places: usize, count: i32, d: i32,
): void {
  const E = <u32>entriesPerPage;
  const row = (<usize>d) << 2;
  for (let i = 0; i < count; i++, k += row, v += row) {
    const place = load<u32>(places + ((<usize>i) << 2));
    const page = pool + <usize>(place / E) * pageBytes;
    readRow(k, page, <usize>(place % E), entryType, entriesPerPage, d);
    readRow(v, page, <usize>(place % E) + <usize>E, entryType, entriesPerPage, d);
  }
}

/** Row `slot` of a page: keys come first, values after the E of them. */
function readRow(out: usize, page: usize, slot: usize, entryType: i32, E: i32, d: i32): void {
  const width = rowBytesOf(entryType, d);
  const end = out + ((<usize>d) << 2);
  let from = page + slot * width;
  if (entryType == ENTRY_F32) {
    memory.copy(out, from, width);
  } else if (entryType == ENTRY_F16) {
    for (; out < end; out += 16, from += 8) v128.store(out, load4Entries(from));
  } else {
    const scale = f32x4.splat(load<f32>(page + scalesAt(E, d) + (slot << 2)));
    for (; out < end; out += 16, from += 4) {
      const steps = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from)));
      v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(steps), scale));
    }
  }
}
