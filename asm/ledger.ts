// ledger: which pages of the KV pool hold which entries of which sequence, and the original position and score of each entry.
// A sequence has `lists` lists (one per layer and KV head). A list is a length and a row of page numbers: its entry i lies in slot
// i % entriesPerPage of page table[i / entriesPerPage]. Entries come in rank order, so shrinking is truncation and pages are free at once.
//
// memory, one block of ledgerBytes(...) bytes at `ledger` (8-byte aligned), never moved, all of it u32 but the scores
//   header      [16]                          class Ledger
//   sequence    [sequences, 8]                class Sequence
//   freePages   [pages]                       a stack; the first `free` are the free pages
//   references  [pages]                       lists that hold the page; 0 = free
//   marks       [2, pages]                    for ledgerCheck
//   lengths     [sequences, lists]            entries of each list
//   tables      [sequences, lists, tableStride]
//   positions   [pages, slotStride]           original position of each entry
//   scores      [pages, slotStride] f32       its score
//
// The rule of reservations. charged(s) = pages that s took from the pool less pages that s returned to it, not below 0. Without forks
// that is the pages it holds. promise(s) = max(reservation(s) - charged(s), 0); reserved = the sum of promises; reserved <= free, always.
// A page is taken out of the taker's own promise, or, when that is 0, out of free - reserved. So a sequence that reserved R pages is
// never refused while it has at most R out; what it returns is its own again, up to R. After a fork: the new sequence starts with
// reservation 0 and charged 0 (shared pages cost it nothing, copies do); a page that is let go while another sequence still holds it
// was not returned, so it stays charged to the one who took it.
//
// Fork shares pages by reference counts. Only the last, partly filled page of a list is ever written, by an append; when it is shared,
// the append takes a fresh page first, copies positions and scores, and tells the pages of the bytes to copy: ledgerCopyFrom, ledgerCopyTo.

/** Statuses, also of ledgerOpen and ledgerFork. A call that returns one has changed nothing. */
export const LEDGER_FULL: i32 = -1; // not enough pages beside those promised to others, or no sequence slot
export const LEDGER_LIST_FULL: i32 = -2; // the list would need more than tableStride pages
export const LEDGER_NOT_OPEN: i32 = -3; // no such sequence
export const LEDGER_NO_LIST: i32 = -4; // no such list
export const LEDGER_BAD_COUNT: i32 = -5; // negative, or a length above the list's, or entries per page above slotStride

const NONE: u32 = 0xffffffff;
const HEADER_BYTES: usize = 64;
const SEQUENCE_BYTES: usize = 32;

@unmanaged
class Ledger {
  pages: u32;
  slotStride: u32;
  sequences: u32;
  lists: u32;
  tableStride: u32;
  free: u32; // free pages
  reserved: u32; // sum of promises
  firstClosed: u32; // closed sequences, chained by nextClosed
  copyFrom: u32; // of the last append
  copyTo: u32;
}

@unmanaged
class Sequence {
  entriesPerPage: u32; // 0 = closed
  reservation: u32;
  charged: u32;
  held: u32; // pages in its lists
  nextClosed: u32;
}

function sequencesAt(ledger: usize): usize {
  return ledger + HEADER_BYTES;
}
function freePagesAt(ledger: usize): usize {
  return sequencesAt(ledger) + <usize>changetype<Ledger>(ledger).sequences * SEQUENCE_BYTES;
}
function referencesAt(ledger: usize): usize {
  return freePagesAt(ledger) + ((<usize>changetype<Ledger>(ledger).pages) << 2);
}
function marksAt(ledger: usize): usize {
  return freePagesAt(ledger) + ((<usize>changetype<Ledger>(ledger).pages) << 3);
}
function lengthsAt(ledger: usize, sequence: i32): usize {
  const head = changetype<Ledger>(ledger);
  return freePagesAt(ledger) + ((<usize>head.pages) << 4) + ((<usize>sequence * head.lists) << 2);
}
function tablesAt(ledger: usize, sequence: i32): usize {
  const head = changetype<Ledger>(ledger);
  return lengthsAt(ledger, head.sequences) + ((<usize>sequence * head.lists * head.tableStride) << 2);
}
function tableAt(ledger: usize, sequence: i32, list: i32): usize {
  return tablesAt(ledger, sequence) + ((<usize>list * changetype<Ledger>(ledger).tableStride) << 2);
}
function sequenceAt(ledger: usize, sequence: i32): Sequence {
  return changetype<Sequence>(sequencesAt(ledger) + <usize>sequence * SEQUENCE_BYTES);
}
function pagesFor(entries: u32, entriesPerPage: u32): u32 {
  return entries / entriesPerPage + u32(entries % entriesPerPage !== 0);
}
function promise(s: Sequence): u32 {
  return s.reservation > s.charged ? s.reservation - s.charged : 0;
}

export function ledgerBytes(pages: u32, slotStride: u32, sequences: u32, lists: u32, tableStride: u32): usize {
  const perList: usize = 1 + <usize>tableStride;
  return HEADER_BYTES + <usize>sequences * (SEQUENCE_BYTES + ((<usize>lists * perList) << 2)) + ((<usize>pages * (4 + 2 * <usize>slotStride)) << 2);
}

export function ledgerInit(ledger: usize, pages: u32, slotStride: u32, sequences: u32, lists: u32, tableStride: u32): void {
  memory.fill(ledger, 0, ledgerBytes(pages, slotStride, sequences, lists, tableStride));
  const head = changetype<Ledger>(ledger);
  head.pages = pages;
  head.slotStride = slotStride;
  head.sequences = sequences;
  head.lists = lists;
  head.tableStride = tableStride;
  head.free = pages;
  head.firstClosed = sequences > 0 ? 0 : NONE;
  head.copyFrom = NONE;
  head.copyTo = NONE;
  for (let i: u32 = 0; i < sequences; i++) sequenceAt(ledger, i).nextClosed = i + 1 < sequences ? i + 1 : NONE;
  const freePages = freePagesAt(ledger);
  for (let i: u32 = 0; i < pages; i++) store<u32>(freePages + ((<usize>i) << 2), pages - 1 - i); // page 0 is taken first
}

function isOpen(ledger: usize, sequence: i32): bool {
  return <u32>sequence < changetype<Ledger>(ledger).sequences && sequenceAt(ledger, sequence).entriesPerPage !== 0;
}

/** A free page, charged to `s`. The caller has made sure that there is one to take. */
function take(ledger: usize, s: Sequence): u32 {
  const head = changetype<Ledger>(ledger);
  if (s.charged < s.reservation) head.reserved--;
  s.charged++;
  s.held++;
  head.free--;
  const page = load<u32>(freePagesAt(ledger) + ((<usize>head.free) << 2));
  store<u32>(referencesAt(ledger) + ((<usize>page) << 2), 1);
  return page;
}

/** `s` lets go of a page; the last holder returns it to the pool. */
function letGo(ledger: usize, s: Sequence, page: u32): void {
  const head = changetype<Ledger>(ledger);
  const at = referencesAt(ledger) + ((<usize>page) << 2);
  const references = load<u32>(at) - 1;
  store<u32>(at, references);
  s.held--;
  if (references !== 0) return;
  store<u32>(freePagesAt(ledger) + ((<usize>head.free) << 2), page);
  head.free++;
  if (s.charged > 0 && --s.charged < s.reservation) head.reserved++;
}

/** A new, empty sequence whose pages hold `entriesPerPage` entries each; its number, or a status. */
export function ledgerOpen(ledger: usize, entriesPerPage: u32): i32 {
  const head = changetype<Ledger>(ledger);
  if (entriesPerPage === 0 || entriesPerPage > head.slotStride) return LEDGER_BAD_COUNT;
  if (head.firstClosed === NONE) return LEDGER_FULL;
  const sequence = <i32>head.firstClosed;
  const s = sequenceAt(ledger, sequence);
  head.firstClosed = s.nextClosed;
  s.entriesPerPage = entriesPerPage;
  s.reservation = 0;
  s.charged = 0;
  s.held = 0;
  memory.fill(lengthsAt(ledger, sequence), 0, (<usize>head.lists) << 2);
  return sequence;
}

/** Makes the reservation `pages` (more or fewer than before): from now on the sequence can have that many out at once. */
export function ledgerReserve(ledger: usize, sequence: i32, pages: u32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  const head = changetype<Ledger>(ledger);
  const s = sequenceAt(ledger, sequence);
  const others = head.reserved - promise(s);
  const wanted = pages > s.charged ? pages - s.charged : 0;
  if (wanted > head.free - others) return LEDGER_FULL;
  s.reservation = pages;
  head.reserved = others + wanted;
  return 0;
}

/** Room for `count` entries at the end of a list, all or nothing; the index of the first, or a status. */
export function ledgerAppend(ledger: usize, sequence: i32, list: i32, count: i32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  const head = changetype<Ledger>(ledger);
  if (<u32>list >= head.lists) return LEDGER_NO_LIST;
  if (count < 0) return LEDGER_BAD_COUNT;
  const s = sequenceAt(ledger, sequence);
  const per = s.entriesPerPage;
  const lengthAt = lengthsAt(ledger, sequence) + ((<usize>list) << 2);
  const length = load<u32>(lengthAt);
  const end = length + <u32>count; // below 2^32: both are below 2^31 by the check of the table
  const had = pagesFor(length, per);
  const needs = pagesFor(end, per);
  if (needs > head.tableStride || end > 0x7fffffff) return LEDGER_LIST_FULL;

  const table = tableAt(ledger, sequence, list);
  const references = referencesAt(ledger);
  const filled = length % per;
  const lastAt = table + ((<usize>had - 1) << 2);
  const copies = count > 0 && filled !== 0 && load<u32>(references + ((<usize>load<u32>(lastAt)) << 2)) > 1;
  if (needs - had + u32(copies) > head.free - (head.reserved - promise(s))) return LEDGER_FULL;

  head.copyFrom = NONE;
  head.copyTo = NONE;
  if (copies) {
    const from = load<u32>(lastAt);
    const to = take(ledger, s);
    letGo(ledger, s, from);
    store<u32>(lastAt, to);
    const source = (<usize>from * head.slotStride) << 2;
    const target = (<usize>to * head.slotStride) << 2;
    const positions = ledgerPositions(ledger);
    const scores = ledgerScores(ledger);
    memory.copy(positions + target, positions + source, (<usize>filled) << 2);
    memory.copy(scores + target, scores + source, (<usize>filled) << 2);
    head.copyFrom = from;
    head.copyTo = to;
  }
  for (let p = had; p < needs; p++) store<u32>(table + ((<usize>p) << 2), take(ledger, s));
  store<u32>(lengthAt, end);
  return <i32>length;
}

/** The page whose first entries the last append needs copied to page ledgerCopyTo, or -1 when nothing is to be copied. */
export function ledgerCopyFrom(ledger: usize): i32 {
  return <i32>changetype<Ledger>(ledger).copyFrom;
}
export function ledgerCopyTo(ledger: usize): i32 {
  return <i32>changetype<Ledger>(ledger).copyTo;
}

/** Lets go of all but the first `length` entries of a list. */
export function ledgerTruncate(ledger: usize, sequence: i32, list: i32, length: i32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  if (<u32>list >= changetype<Ledger>(ledger).lists) return LEDGER_NO_LIST;
  const s = sequenceAt(ledger, sequence);
  const lengthAt = lengthsAt(ledger, sequence) + ((<usize>list) << 2);
  const old = load<u32>(lengthAt);
  if (<u32>length > old) return LEDGER_BAD_COUNT; // a negative length too
  const table = tableAt(ledger, sequence, list);
  const stays = pagesFor(length, s.entriesPerPage);
  for (let p = pagesFor(old, s.entriesPerPage); p > stays; p--) letGo(ledger, s, load<u32>(table + ((<usize>p - 1) << 2)));
  store<u32>(lengthAt, length);
  return 0;
}

/** A new sequence with the same entries on the same pages; its number, or a status. */
export function ledgerFork(ledger: usize, sequence: i32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  const head = changetype<Ledger>(ledger);
  const s = sequenceAt(ledger, sequence);
  const fork = ledgerOpen(ledger, s.entriesPerPage);
  if (fork < 0) return fork;
  sequenceAt(ledger, fork).held = s.held;
  const lengths = lengthsAt(ledger, sequence);
  memory.copy(lengthsAt(ledger, fork), lengths, (<usize>head.lists) << 2);
  const references = referencesAt(ledger);
  for (let list: u32 = 0; list < head.lists; list++) {
    const table = tableAt(ledger, sequence, list);
    const pages = <usize>pagesFor(load<u32>(lengths + ((<usize>list) << 2)), s.entriesPerPage);
    memory.copy(tableAt(ledger, fork, list), table, pages << 2);
    for (let p: usize = 0; p < pages; p++) {
      const at = references + ((<usize>load<u32>(table + (p << 2))) << 2);
      store<u32>(at, load<u32>(at) + 1);
    }
  }
  return fork;
}

export function ledgerClose(ledger: usize, sequence: i32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  const head = changetype<Ledger>(ledger);
  for (let list: u32 = 0; list < head.lists; list++) ledgerTruncate(ledger, sequence, list, 0);
  const s = sequenceAt(ledger, sequence);
  head.reserved -= promise(s);
  s.entriesPerPage = 0;
  s.nextClosed = head.firstClosed;
  head.firstClosed = sequence;
  return 0;
}

/** Writes entries from..from+count-1 of a list: entry i is token order[i], with score scores[order[i]].   order [count] u32, scores f32 */
export function ledgerWriteRanked(ledger: usize, sequence: i32, list: i32, from: i32, count: i32, order: usize, scores: usize): i32 {
  const status = checkRange(ledger, sequence, list, from, count);
  if (status !== 0) return status;
  const toPosition = ledgerPositions(ledger);
  const toScore = ledgerScores(ledger);
  for (let i = 0; i < count; i++) {
    const at = slotOf(ledger, sequence, list, from + i) << 2;
    const token = load<u32>(order + ((<usize>i) << 2));
    store<u32>(toPosition + at, token);
    store<f32>(toScore + at, load<f32>(scores + ((<usize>token) << 2)));
  }
  return 0;
}

/** Writes entries from..from+count-1 of a list: consecutive positions from `start`, all with the same score. */
export function ledgerWriteRun(ledger: usize, sequence: i32, list: i32, from: i32, count: i32, start: u32, score: f32): i32 {
  const status = checkRange(ledger, sequence, list, from, count);
  if (status !== 0) return status;
  const positions = ledgerPositions(ledger);
  const scores = ledgerScores(ledger);
  for (let i = 0; i < count; i++) {
    const at = slotOf(ledger, sequence, list, from + i) << 2;
    store<u32>(positions + at, start + i);
    store<f32>(scores + at, score);
  }
  return 0;
}

function checkRange(ledger: usize, sequence: i32, list: i32, from: i32, count: i32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  if (<u32>list >= changetype<Ledger>(ledger).lists) return LEDGER_NO_LIST;
  const inside = from >= 0 && count >= 0 && <u64>from + count <= load<u32>(lengthsAt(ledger, sequence) + ((<usize>list) << 2));
  return inside ? 0 : LEDGER_BAD_COUNT;
}

/** Index of an entry in positions and scores: page * slotStride + slot. */
function slotOf(ledger: usize, sequence: i32, list: i32, index: i32): usize {
  const per = sequenceAt(ledger, sequence).entriesPerPage;
  const page = load<u32>(tableAt(ledger, sequence, list) + ((<usize>(<u32>index / per)) << 2));
  return <usize>page * changetype<Ledger>(ledger).slotStride + (<u32>index % per);
}

export function ledgerLength(ledger: usize, sequence: i32, list: i32): i32 {
  const status = checkRange(ledger, sequence, list, 0, 0);
  return status === 0 ? load<i32>(lengthsAt(ledger, sequence) + ((<usize>list) << 2)) : status;
}
export function ledgerEntriesPerPage(ledger: usize, sequence: i32): i32 {
  return isOpen(ledger, sequence) ? <i32>sequenceAt(ledger, sequence).entriesPerPage : LEDGER_NOT_OPEN;
}
/** Address of the sequence's lengths [lists]. */
export function ledgerLengths(ledger: usize, sequence: i32): usize {
  return lengthsAt(ledger, sequence);
}
/** Address of the sequence's page tables [lists, tableStride]. */
export function ledgerTables(ledger: usize, sequence: i32): usize {
  return tablesAt(ledger, sequence);
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
export function ledgerFreePages(ledger: usize): u32 {
  return changetype<Ledger>(ledger).free;
}
export function ledgerUsedPages(ledger: usize): u32 {
  return changetype<Ledger>(ledger).pages - changetype<Ledger>(ledger).free;
}
/** Free pages that are promised to somebody. */
export function ledgerReservedPages(ledger: usize): u32 {
  return changetype<Ledger>(ledger).reserved;
}
/** Pages in the sequence's lists, shared ones too. */
export function ledgerPagesOf(ledger: usize, sequence: i32): i32 {
  return isOpen(ledger, sequence) ? <i32>sequenceAt(ledger, sequence).held : LEDGER_NOT_OPEN;
}

/**
 * 0, or the first broken invariant: 1 the free stack holds an unknown page, or one twice; 2 a list is longer than its table; 3 a list holds
 * an unknown page; 4 a page is twice in one sequence; 5 a page is neither free nor referenced exactly as often as counted; 6 pages held are
 * miscounted; 7 promises are miscounted; 8 more is promised than free; 9 the chain of closed sequences is broken.
 */
export function ledgerCheck(ledger: usize): i32 {
  const head = changetype<Ledger>(ledger);
  const bytes = (<usize>head.pages) << 2;
  const counts = marksAt(ledger); // references found
  const seen = counts + bytes; // 1 + the last sequence that held the page; NONE = on the free stack
  memory.fill(counts, 0, 2 * bytes);
  if (head.free > head.pages) return 1;
  for (let i: u32 = 0; i < head.free; i++) {
    const page = load<u32>(freePagesAt(ledger) + ((<usize>i) << 2));
    if (page >= head.pages || load<u32>(seen + ((<usize>page) << 2)) !== 0) return 1;
    store<u32>(seen + ((<usize>page) << 2), NONE);
  }
  let promised: u64 = 0;
  let closed: u32 = 0;
  for (let i: u32 = 0; i < head.sequences; i++) {
    const s = sequenceAt(ledger, i);
    if (s.entriesPerPage === 0) {
      closed++;
      continue;
    }
    promised += promise(s);
    let held: u32 = 0;
    for (let list: u32 = 0; list < head.lists; list++) {
      const pages = pagesFor(load<u32>(lengthsAt(ledger, i) + ((<usize>list) << 2)), s.entriesPerPage);
      if (pages > head.tableStride) return 2;
      held += pages;
      for (let p: u32 = 0; p < pages; p++) {
        const page = load<u32>(tableAt(ledger, i, list) + ((<usize>p) << 2));
        if (page >= head.pages) return 3;
        const at = (<usize>page) << 2;
        if (load<u32>(seen + at) === i + 1) return 4;
        store<u32>(seen + at, load<u32>(seen + at) === NONE ? NONE : i + 1);
        store<u32>(counts + at, load<u32>(counts + at) + 1);
      }
    }
    if (held !== s.held) return 6;
  }
  for (let page: usize = 0; page < <usize>head.pages; page++) {
    const count = load<u32>(counts + (page << 2));
    if (count !== load<u32>(referencesAt(ledger) + (page << 2))) return 5;
    if ((count === 0) !== (load<u32>(seen + (page << 2)) === NONE)) return 5;
  }
  if (promised !== <u64>head.reserved) return 7;
  if (head.reserved > head.free) return 8;
  let next = head.firstClosed;
  while (next !== NONE) {
    if (next >= head.sequences || closed-- === 0 || sequenceAt(ledger, next).entriesPerPage !== 0) return 9;
    next = sequenceAt(ledger, next).nextClosed;
  }
  return closed === 0 ? 0 : 9;
}
