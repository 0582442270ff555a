// ledger: which pages of the KV pool hold which entries of which sequence, and the original position and score of each entry.
// Where it keeps that: ledger-memory.
// A sequence has `lists` lists (one per layer and KV head). A list is a length and a row of page numbers: its entry i lies in slot
// i % entriesPerPage of page table[i / entriesPerPage]. Entries come in rank order, so shrinking is truncation and pages are free at once.
//
// The rule of reservations. charged(s) = pages that s took from the pool less pages that s returned to it, not below 0. Without forks
// that is the pages it holds. promise(s) = max(reservation(s) - charged(s), 0); reserved = the sum of promises; reserved <= free, always.
// A page is taken out of the taker's own promise, or, when that is 0, out of free - reserved. So a sequence that reserved R pages is
// never refused while it has at most R out; what it returns is its own again, up to R. After a fork: the new sequence starts with
// reservation 0 and charged 0 (shared pages cost it nothing, copies do); a page that is let go while another sequence still holds it
// was not returned, so it stays charged to the one who took it.
//
// Fork shares pages by reference counts, and no shared page is ever written. An append into a list's last, partly filled page makes that the
// sequence's own first, if it is shared; whoever writes elsewhere asks for it: ledgerOwn. Either takes a fresh page, copies positions and
// scores, and tells the pages of the bytes to copy: ledgerCopyFrom, ledgerCopyTo.
import {
  freePagesAt, Ledger, ledgerBytes, ledgerPositions, ledgerScores, lengthsAt, NONE, pagesFor, promise, referencesAt, Sequence, sequenceAt, tableAt, tablesAt,
} from './ledger-memory';

/** Statuses, also of ledgerOpen and ledgerFork. A call that returns one has changed nothing. */
export const LEDGER_FULL: i32 = -1; // not enough pages beside those promised to others, or no sequence slot
export const LEDGER_LIST_FULL: i32 = -2; // the list would need more than tableStride pages
export const LEDGER_NOT_OPEN: i32 = -3; // no such sequence
export const LEDGER_NO_LIST: i32 = -4; // no such list
export const LEDGER_BAD_COUNT: i32 = -5; // negative, or a length above the list's, or entries per page above slotStride
export const LEDGER_SHARED: i32 = -6; // an entry to be written lies on a page that another sequence holds too

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

/** A page of the taker's own in the place of the shared one at `at` in a page table, with its first `filled` entries; the caller copies the bytes. */
function takeCopy(ledger: usize, s: Sequence, at: usize, filled: u32): void {
  const head = changetype<Ledger>(ledger);
  const from = load<u32>(at);
  const to = take(ledger, s);
  letGo(ledger, s, from);
  store<u32>(at, to);
  const source = (<usize>from * head.slotStride) << 2;
  const target = (<usize>to * head.slotStride) << 2;
  const positions = ledgerPositions(ledger);
  const scores = ledgerScores(ledger);
  memory.copy(positions + target, positions + source, (<usize>filled) << 2);
  memory.copy(scores + target, scores + source, (<usize>filled) << 2);
  head.copyFrom = from;
  head.copyTo = to;
}

function isShared(ledger: usize, page: u32): bool {
  return load<u32>(referencesAt(ledger) + ((<usize>page) << 2)) > 1;
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
  const filled = length % per;
  const lastAt = table + ((<usize>had - 1) << 2);
  const copies = count > 0 && filled !== 0 && isShared(ledger, load<u32>(lastAt));
  if (needs - had + u32(copies) > head.free - (head.reserved - promise(s))) return LEDGER_FULL;

  head.copyFrom = NONE;
  head.copyTo = NONE;
  if (copies) takeCopy(ledger, s, lastAt, filled);
  for (let p = had; p < needs; p++) store<u32>(table + ((<usize>p) << 2), take(ledger, s));
  store<u32>(lengthAt, end);
  return <i32>length;
}

/** Makes the page of an entry the sequence's own, so that it may be written: 1 = a copy, of which the caller copies the bytes; 0 = it was; or a status. */
export function ledgerOwn(ledger: usize, sequence: i32, list: i32, entry: i32): i32 {
  const status = checkRange(ledger, sequence, list, entry, 1);
  if (status !== 0) return status;
  const head = changetype<Ledger>(ledger);
  const s = sequenceAt(ledger, sequence);
  const page = <u32>entry / s.entriesPerPage;
  const at = tableAt(ledger, sequence, list) + ((<usize>page) << 2);
  if (!isShared(ledger, load<u32>(at))) return 0;
  if (head.free - (head.reserved - promise(s)) === 0) return LEDGER_FULL;
  const behind = load<u32>(lengthsAt(ledger, sequence) + ((<usize>list) << 2)) - page * s.entriesPerPage; // entries from this page on
  takeCopy(ledger, s, at, min(behind, s.entriesPerPage));
  return 1;
}

/** The page whose first entries the last append or ledgerOwn needs copied to page ledgerCopyTo, or -1 when nothing is to be copied. */
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
  const status = checkOwn(ledger, sequence, list, from, count);
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
  const status = checkOwn(ledger, sequence, list, from, count);
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

/** Entry `to` of a list gets the position and score of entry `from`, whose bytes the caller moves. */
export function ledgerMove(ledger: usize, sequence: i32, list: i32, from: i32, to: i32): i32 {
  const status = min(checkRange(ledger, sequence, list, from, 1), checkOwn(ledger, sequence, list, to, 1));
  if (status !== 0) return status;
  const source = slotOf(ledger, sequence, list, from) << 2;
  const target = slotOf(ledger, sequence, list, to) << 2;
  store<u32>(ledgerPositions(ledger) + target, load<u32>(ledgerPositions(ledger) + source));
  store<f32>(ledgerScores(ledger) + target, load<f32>(ledgerScores(ledger) + source));
  return 0;
}

function checkRange(ledger: usize, sequence: i32, list: i32, from: i32, count: i32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  if (<u32>list >= changetype<Ledger>(ledger).lists) return LEDGER_NO_LIST;
  const inside = from >= 0 && count >= 0 && <u64>from + count <= load<u32>(lengthsAt(ledger, sequence) + ((<usize>list) << 2));
  return inside ? 0 : LEDGER_BAD_COUNT;
}

/** The same, and whether all of the entries may be written. */
function checkOwn(ledger: usize, sequence: i32, list: i32, from: i32, count: i32): i32 {
  const status = checkRange(ledger, sequence, list, from, count);
  if (status !== 0 || count === 0) return status;
  const per = sequenceAt(ledger, sequence).entriesPerPage;
  const table = tableAt(ledger, sequence, list);
  const last = (<u32>from + count - 1) / per;
  for (let page = <u32>from / per; page <= last; page++) if (isShared(ledger, load<u32>(table + ((<usize>page) << 2)))) return LEDGER_SHARED;
  return 0;
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
/** Of these, pages that another sequence holds too. */
export function ledgerSharedPagesOf(ledger: usize, sequence: i32): i32 {
  if (!isOpen(ledger, sequence)) return LEDGER_NOT_OPEN;
  const per = sequenceAt(ledger, sequence).entriesPerPage;
  const lengths = lengthsAt(ledger, sequence);
  let shared = 0;
  for (let list: u32 = 0; list < changetype<Ledger>(ledger).lists; list++) {
    const table = tableAt(ledger, sequence, list);
    const pages = <usize>pagesFor(load<u32>(lengths + ((<usize>list) << 2)), per);
    for (let p: usize = 0; p < pages; p++) shared += i32(isShared(ledger, load<u32>(table + (p << 2))));
  }
  return shared;
}
