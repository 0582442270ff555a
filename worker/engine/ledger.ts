/** Typed door to asm/ledger.ts: pages and positions of the paged, ragged KV cache. The rules are in that file's header. */
import type { PagedLayer } from '../backend/backend.ts';
import type { LedgerExports } from '../backend/kernel-exports.ts';

/** The AssemblyScript module as the ledger needs it, whatever the backend: `alloc` returns an address, 8-byte aligned, and throws when there is no room. */
export interface LedgerHost {
  readonly exports: LedgerExports;
  readonly memory: WebAssembly.Memory;
  alloc(bytes: number, label: string): number;
  free(address: number): void;
}

export interface LedgerGeometry {
  readonly pages: number;
  /** Most entries that a page can hold; positions and scores are indexed [page * slotStride + slot]. */
  readonly slotStride: number;
  /** Sequences that can be open at once. */
  readonly sequences: number;
  /** Layers * KV heads; the list of (layer, head) is layer * kvHeads + head. */
  readonly lists: number;
  /** Most pages that one list can have. */
  readonly tableStride: number;
}

/** Copies a page's bytes in the pool, when something is to be written to a page that another sequence shares. */
export type CopyPage = (fromPage: number, toPage: number) => void;

const FULL = -1;
const SHARED = -6;
const MISTAKES: Record<number, string> = {
  [-2]: 'the list would need more pages than its table has room for',
  [-3]: 'the sequence is not open',
  [-4]: 'no such list',
  [-5]: 'the length or count is out of range',
  [SHARED]: 'the entry to be written lies on a page that another sequence holds too',
};

export class Ledger {
  readonly geometry: LedgerGeometry;
  readonly #exports: LedgerExports;
  readonly #host: LedgerHost;
  readonly #address: number;
  readonly #copyPage: CopyPage;

  static bytes(exports: LedgerExports, { pages, slotStride, sequences, lists, tableStride }: LedgerGeometry): number {
    return exports.ledgerBytes(pages, slotStride, sequences, lists, tableStride) >>> 0;
  }

  /** Takes the `Ledger.bytes(...)` bytes at `address` (8-byte aligned), which stay the caller's to free. */
  constructor(host: LedgerHost, address: number, geometry: LedgerGeometry, copyPage: CopyPage) {
    const { exports } = host;
    this.geometry = geometry;
    this.#host = host;
    this.#exports = exports;
    this.#address = address;
    this.#copyPage = copyPage;
    const { pages, slotStride, sequences, lists, tableStride } = geometry;
    exports.ledgerInit(address, pages, slotStride, sequences, lists, tableStride);
  }

  /** A new, empty sequence; null when all sequence slots are taken. */
  open(entriesPerPage: number): number | null {
    return orNull('open', this.#exports.ledgerOpen(this.#address, entriesPerPage));
  }
  /** The sequence may have `pages` pages out at once from now on, and will not be refused them. False: too few are free; nothing changed. */
  reserve(sequence: number, pages: number): boolean {
    return orNull('reserve', this.#exports.ledgerReserve(this.#address, sequence, pages)) !== null;
  }
  /** Room for `count` entries at the end of a list: the index of the first, or null when the pool is full (nothing changed). */
  append(sequence: number, list: number, count: number): number | null {
    const first = orNull('append', this.#exports.ledgerAppend(this.#address, sequence, list, count));
    if (first === null) return null;
    const from = this.#exports.ledgerCopyFrom(this.#address);
    if (from >= 0) this.#copyPage(from, this.#exports.ledgerCopyTo(this.#address));
    return first;
  }
  /** Makes the pages of these entries the sequence's own: those that another shares are copied. `move` and both `write` do so themselves. */
  own(sequence: number, list: number, from: number, count: number): void {
    const per = this.entriesPerPage(sequence);
    for (let entry = from; entry < from + count; entry = (Math.floor(entry / per) + 1) * per) {
      const copied = orNull('own', this.#exports.ledgerOwn(this.#address, sequence, list, entry));
      if (copied === null) throw new Error('ledger own: no page is left for the copy of a shared one');
      if (copied > 0) this.#copyPage(this.#exports.ledgerCopyFrom(this.#address), this.#exports.ledgerCopyTo(this.#address));
    }
  }
  truncate(sequence: number, list: number, length: number): void {
    done('truncate', this.#exports.ledgerTruncate(this.#address, sequence, list, length));
  }
  /** A new sequence that shares all pages and may take `pages` of its own, copies of shared ones among them; null when too few are free, or all sequence slots taken. */
  fork(sequence: number, pages = 0): number | null {
    const fork = orNull('fork', this.#exports.ledgerFork(this.#address, sequence));
    if (fork === null || this.reserve(fork, pages)) return fork;
    this.close(fork);
    return null;
  }
  close(sequence: number): void {
    done('close', this.#exports.ledgerClose(this.#address, sequence));
  }

  /** The entries from `from` on are the tokens of `order`, with scores[token]. Takes room in the module's memory for the two meanwhile. */
  writeRanked(sequence: number, list: number, from: number, order: Uint32Array, scores: Float32Array): void {
    const { exports, memory, alloc, free } = this.#host;
    const room = alloc(Math.max(8, order.byteLength + scores.byteLength), 'ranked entries');
    try {
      new Uint32Array(memory.buffer, room, order.length).set(order);
      new Float32Array(memory.buffer, room + order.byteLength, scores.length).set(scores);
      this.#write('writeRanked', sequence, list, from, order.length, () =>
        exports.ledgerWriteRanked(this.#address, sequence, list, from, order.length, room, room + order.byteLength),
      );
    } finally {
      free(room);
    }
  }
  /** Entries from..from+count-1 have positions start, start+1, … and all the same score. */
  writeRun(sequence: number, list: number, from: number, count: number, start: number, score = 0): void {
    this.#write('writeRun', sequence, list, from, count, () =>
      this.#exports.ledgerWriteRun(this.#address, sequence, list, from, count, start, score),
    );
  }
  /** Copies of a list's positions and scores, in list order (best first). */
  read(sequence: number, list: number): { positions: Uint32Array; scores: Float32Array } {
    const length = this.length(sequence, list);
    const perPage = this.entriesPerPage(sequence);
    const { slotStride, tableStride } = this.geometry;
    const { buffer } = this.#host.memory; // views for this call only: growth of the memory detaches them
    const positions = new Uint32Array(length);
    const scores = new Float32Array(length);
    const pages = new Uint32Array(buffer, this.tables(sequence) + list * tableStride * 4, Math.ceil(length / perPage));
    pages.forEach((page, i) => {
      const count = Math.min(perPage, length - i * perPage);
      const offset = page * slotStride * 4;
      positions.set(new Uint32Array(buffer, this.positions + offset, count), i * perPage);
      scores.set(new Float32Array(buffer, this.scores + offset, count), i * perPage);
    });
    return { positions, scores };
  }

  /** Entry `to` of a list gets the position and score of entry `from`; the caller moves their bytes. */
  move(sequence: number, list: number, from: number, to: number): void {
    this.#write('move', sequence, list, to, 1, () => this.#exports.ledgerMove(this.#address, sequence, list, from, to));
  }
  /** Where entries of a list lie: page * entriesPerPage + slot. */
  places(sequence: number, list: number, entries: Uint32Array): Uint32Array {
    const per = this.entriesPerPage(sequence);
    const { tableStride } = this.geometry;
    const pages = new Uint32Array(this.#host.memory.buffer, this.tables(sequence) + list * tableStride * 4, tableStride);
    return entries.map((entry) => pages[Math.floor(entry / per)] * per + (entry % per));
  }

  /** A copy of a list's page numbers. */
  pages(sequence: number, list: number): Uint32Array {
    const count = Math.ceil(this.length(sequence, list) / this.entriesPerPage(sequence));
    return new Uint32Array(this.#host.memory.buffer, this.tables(sequence) + list * this.geometry.tableStride * 4, count).slice();
  }

  /** A copy of the lengths of all lists. */
  allLengths(sequence: number): Uint32Array {
    return new Uint32Array(this.#host.memory.buffer, this.lengths(sequence), this.geometry.lists).slice();
  }
  length(sequence: number, list: number): number {
    return done('length', this.#exports.ledgerLength(this.#address, sequence, list));
  }
  /** Throws when the sequence is not open. */
  entriesPerPage(sequence: number): number {
    return done('entriesPerPage', this.#exports.ledgerEntriesPerPage(this.#address, sequence));
  }
  /** Address of the sequence's u32 lengths [lists]. */
  lengths(sequence: number): number {
    this.entriesPerPage(sequence);
    return this.#exports.ledgerLengths(this.#address, sequence) >>> 0;
  }
  /** Address of the sequence's u32 page tables [lists, tableStride]. */
  tables(sequence: number): number {
    this.entriesPerPage(sequence);
    return this.#exports.ledgerTables(this.#address, sequence) >>> 0;
  }
  /** What attention needs to know of one layer: the lists firstList .. firstList + kvHeads - 1. */
  layer(sequence: number, firstList: number): Pick<PagedLayer, 'lengths' | 'pageTable' | 'tableStride' | 'positions' | 'slotStride'> {
    const { tableStride, slotStride } = this.geometry;
    return {
      lengths: this.lengths(sequence) + firstList * 4,
      pageTable: this.tables(sequence) + firstList * tableStride * 4,
      tableStride,
      positions: this.positions,
      slotStride,
    };
  }
  /** Address of u32 positions [pages, slotStride]. */
  get positions(): number {
    return this.#exports.ledgerPositions(this.#address) >>> 0;
  }
  /** Address of f32 scores [pages, slotStride]. */
  get scores(): number {
    return this.#exports.ledgerScores(this.#address) >>> 0;
  }
  get freePages(): number {
    return this.#exports.ledgerFreePages(this.#address) >>> 0;
  }
  get usedPages(): number {
    return this.#exports.ledgerUsedPages(this.#address) >>> 0;
  }
  /** Free pages that are promised to somebody. */
  get reservedPages(): number {
    return this.#exports.ledgerReservedPages(this.#address) >>> 0;
  }
  /** Pages in the sequence's lists, shared ones too. */
  pagesOf(sequence: number): number {
    return done('pagesOf', this.#exports.ledgerPagesOf(this.#address, sequence));
  }
  /** Of these, those that another sequence holds too. Looks at every one. */
  sharedPagesOf(sequence: number): number {
    return done('sharedPagesOf', this.#exports.ledgerSharedPagesOf(this.#address, sequence));
  }
  /** Throws when an invariant is broken; for tests and after trouble: it reads every page. */
  check(): void {
    const broken = this.#exports.ledgerCheck(this.#address);
    if (broken !== 0) throw new Error(`ledger: invariant ${broken} of ledgerCheck is broken`);
  }

  /** Writes to entries; where they lie on shared pages, on copies of those. */
  #write(what: string, sequence: number, list: number, from: number, count: number, write: () => number): void {
    const status = write();
    if (status === SHARED) this.own(sequence, list, from, count);
    done(what, status === SHARED ? write() : status);
  }
}

function done(what: string, status: number): number {
  if (status < 0) throw new Error(`ledger ${what}: ${MISTAKES[status] ?? `status ${status}`}`);
  return status;
}
function orNull(what: string, status: number): number | null {
  return status === FULL ? null : done(what, status);
}
