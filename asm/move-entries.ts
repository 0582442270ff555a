// move-entries: entries of the cache to other places in it, bit for bit: int8 rows keep their scale, nothing is rounded again.
// in   moves [count, 2] u32: from, to, each page * E + slot. No place is read and written, none is written twice
// out  pages at pool + page * pageBytes, drawn in entry-page
import { ENTRY_INT8, rowBytesOf, scalesAt } from './entry-page';

export function moveEntries(pool: usize, pageBytes: usize, entryType: i32, entriesPerPage: i32, moves: usize, count: i32, d: i32): void {
  const E = <u32>entriesPerPage;
  const width = rowBytesOf(entryType, d);
  const scales = scalesAt(entriesPerPage, d);
  for (const end = moves + ((<usize>count) << 3); moves < end; moves += 8) {
    const from = load<u32>(moves);
    const to = load<u32>(moves, 4);
    const source = pool + <usize>(from / E) * pageBytes;
    const target = pool + <usize>(to / E) * pageBytes;
    let a = <usize>(from % E);
    let b = <usize>(to % E);
    for (let values = 0; values < 2; values++, a += E, b += E) {
      memory.copy(target + b * width, source + a * width, width);
      if (entryType == ENTRY_INT8) store<u32>(target + scales + (b << 2), load<u32>(source + scales + (a << 2)));
    }
  }
}
