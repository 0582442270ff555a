// ledger-check: is the ledger what it says of itself? For tests, and after trouble: it reads every page.
import { freePagesAt, Ledger, lengthsAt, marksAt, NONE, pagesFor, promise, referencesAt, sequenceAt, tableAt } from './ledger-memory';

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
