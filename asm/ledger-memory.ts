// ledger-memory: where the ledger keeps what it knows.
// One block of ledgerBytes(...) bytes at `ledger` (8-byte aligned), never moved, all of it u32 but the scores
//   header      [16]                          class Ledger
//   sequence    [sequences, 8]                class Sequence
//   freePages   [pages]                       a stack; the first `free` are the free pages
//   references  [pages]                       lists that hold the page; 0 = free
//   marks       [2, pages]                    for ledgerCheck
//   lengths     [sequences, lists]            entries of each list
//   tables      [sequences, lists, tableStride]
//   positions   [pages, slotStride]           original position of each entry
//   scores      [pages, slotStride] f32       its score

export const NONE: u32 = 0xffffffff;
const HEADER_BYTES: usize = 64;
const SEQUENCE_BYTES: usize = 32;

@unmanaged
export class Ledger {
  pages: u32;
  slotStride: u32;
  sequences: u32;
  lists: u32;
  tableStride: u32;
  free: u32; // free pages
  reserved: u32; // sum of promises
  firstClosed: u32; // closed sequences, chained by nextClosed
  copyFrom: u32; // of the last append, or ledgerOwn
  copyTo: u32;
}

@unmanaged
export class Sequence {
  entriesPerPage: u32; // 0 = closed
  reservation: u32;
  charged: u32;
  held: u32; // pages in its lists
  nextClosed: u32;
}

export function sequencesAt(ledger: usize): usize {
  return ledger + HEADER_BYTES;
}
export function freePagesAt(ledger: usize): usize {
  return sequencesAt(ledger) + <usize>changetype<Ledger>(ledger).sequences * SEQUENCE_BYTES;
}
export function referencesAt(ledger: usize): usize {
  return freePagesAt(ledger) + ((<usize>changetype<Ledger>(ledger).pages) << 2);
}
export function marksAt(ledger: usize): usize {
  return freePagesAt(ledger) + ((<usize>changetype<Ledger>(ledger).pages) << 3);
}
export function lengthsAt(ledger: usize, sequence: i32): usize {
  const head = changetype<Ledger>(ledger);
  return freePagesAt(ledger) + ((<usize>head.pages) << 4) + ((<usize>sequence * head.lists) << 2);
}
export function tablesAt(ledger: usize, sequence: i32): usize {
  const head = changetype<Ledger>(ledger);
  return lengthsAt(ledger, head.sequences) + ((<usize>sequence * head.lists * head.tableStride) << 2);
}
export function tableAt(ledger: usize, sequence: i32, list: i32): usize {
  return tablesAt(ledger, sequence) + ((<usize>list * changetype<Ledger>(ledger).tableStride) << 2);
}
export function sequenceAt(ledger: usize, sequence: i32): Sequence {
  return changetype<Sequence>(sequencesAt(ledger) + <usize>sequence * SEQUENCE_BYTES);
}
export function pagesFor(entries: u32, entriesPerPage: u32): u32 {
  return entries / entriesPerPage + u32(entries % entriesPerPage !== 0);
}
export function promise(s: Sequence): u32 {
  return s.reservation > s.charged ? s.reservation - s.charged : 0;
}

export function ledgerBytes(pages: u32, slotStride: u32, sequences: u32, lists: u32, tableStride: u32): usize {
  const perList: usize = 1 + <usize>tableStride;
  return HEADER_BYTES + <usize>sequences * (SEQUENCE_BYTES + ((<usize>lists * perList) << 2)) + ((<usize>pages * (4 + 2 * <usize>slotStride)) << 2);
}

/** Address of positions [pages, slotStride] u32. */
export function ledgerPositions(ledger: usize): usize {
  return tablesAt(ledger, changetype<Ledger>(ledger).sequences);
}
/** Address of scores [pages, slotStride] f32. */
export function ledgerScores(ledger: usize): usize {
  const head = changetype<Ledger>(ledger);
  return ledgerPositions(ledger) + ((<usize>head.pages * head.slotStride) << 2);
}
