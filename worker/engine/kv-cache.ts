/**
 * The paged, ragged KV cache: one pool of equal pages on the device, the ledger of who holds which. A page holds entries of one (layer, KV head)
 * in rank order, so that evicting is truncation and memory is free at once. While decoding, what stays fills the gaps first (`retain`). Pages are shared
 * by a sequence and its forks until one of them writes.
 *
 * Page of d-wide heads, 128 d bytes: 16 f32 entries (K and V rows), 32 f16 entries, or floor(64 d / (d + 4)) int8 entries with one f32 scale a row.
 */
import type { KeptRows, KeptStore, LayerTensors } from '../../presses/contract.ts';
import { at, type Backend, type DeviceBuffer, type EntryType, entryTypes, type PagedLayer, type RankOrder, type View } from '../backend/backend.ts';
import type { LedgerExports } from '../backend/kernel-exports.ts';
import type { AppendableCache } from './forward.ts';
import { GivenUp } from './given-up.ts';
import { Ledger, type LedgerGeometry, type LedgerHost } from './ledger.ts';

const F32_ENTRIES_PER_PAGE = 16;
const GAP = 0xffffffff;
const READ_AT_ONCE = 64; // pages

export interface KvShape {
  readonly layers: number; // L
  readonly queryHeads: number; // Hq
  readonly kvHeads: number; // H
  readonly headDim: number; // d
}

export function pageBytesOf(headDim: number): number {
  return F32_ENTRIES_PER_PAGE * 2 * headDim * 4;
}

export function entriesPerPageOf(type: EntryType, headDim: number): number {
  const rowBytes = { f32: 4 * headDim, f16: 2 * headDim, int8: headDim + 4 }[type];
  return Math.floor(pageBytesOf(headDim) / (2 * rowBytes));
}

/** Bytes of the keys and values of one layer while a prompt of so many tokens is read: f32, outside the pages. */
export function layerBytesOf({ kvHeads, headDim }: KvShape, tokens: number): number {
  return tokens * kvHeads * headDim * 2 * 4;
}

export interface KvCacheOptions {
  readonly poolBytes: number;
  /** Most tokens a list can hold. */
  readonly contextLength: number;
  /** Most sequences open at once. */
  readonly sequences: number;
}

function geometryOf(shape: KvShape, { poolBytes, contextLength, sequences }: KvCacheOptions): LedgerGeometry {
  const pages = Math.floor(poolBytes / pageBytesOf(shape.headDim));
  return {
    pages,
    slotStride: Math.max(...entryTypes.map((type) => entriesPerPageOf(type, shape.headDim))),
    sequences,
    lists: shape.layers * shape.kvHeads,
    tableStride: Math.min(pages, Math.ceil(contextLength / F32_ENTRIES_PER_PAGE)),
  };
}

/** Bytes of a KvCache: its pages, and the ledger over them. */
export function kvCacheBytes(exports: LedgerExports, shape: KvShape, options: KvCacheOptions): number {
  const geometry = geometryOf(shape, options);
  return geometry.pages * pageBytesOf(shape.headDim) + Ledger.bytes(exports, geometry);
}

export class KvCache {
  readonly shape: KvShape;
  readonly pageBytes: number;
  readonly pages: number;
  readonly ledgerBytes: number;
  readonly #backend: Backend;
  readonly #host: LedgerHost;
  readonly #pool: DeviceBuffer;
  readonly #ledgerAddress: number;
  readonly ledger: Ledger;
  /** Sequences that others fork, and that stay until somebody closes them: no request can wait for their pages. */
  readonly settled = new Set<KvSequence>();

  constructor(backend: Backend, host: LedgerHost, shape: KvShape, options: KvCacheOptions) {
    this.shape = shape;
    this.pageBytes = pageBytesOf(shape.headDim);
    this.#backend = backend;
    this.#host = host;
    const geometry = geometryOf(shape, options);
    this.pages = geometry.pages;
    this.ledgerBytes = Ledger.bytes(host.exports, geometry);
    this.#pool = backend.alloc(this.pages * this.pageBytes, 'KV pool');
    try {
      this.#ledgerAddress = host.alloc(this.ledgerBytes, 'token ledger');
    } catch (error) {
      backend.free(this.#pool);
      throw error;
    }
    this.ledger = new Ledger(host, this.#ledgerAddress, geometry, (from, to) =>
      backend.copy(at(this.#pool, to * this.pageBytes), at(this.#pool, from * this.pageBytes), this.pageBytes),
    );
  }

  get poolBytes(): number {
    return this.pages * this.pageBytes;
  }
  get usedBytes(): number {
    return this.ledger.usedPages * this.pageBytes;
  }
  get reservedBytes(): number {
    return this.ledger.reservedPages * this.pageBytes;
  }
  /** Pages that nobody holds and nobody was promised. */
  get openPages(): number {
    return this.ledger.freePages - this.ledger.reservedPages;
  }

  get settledBytes(): number {
    return [...this.settled].reduce((sum, { heldBytes }) => sum + heldBytes, 0);
  }
  /** Pages that requests find when all others are done. */
  get requestPages(): number {
    return this.pages - this.settledBytes / this.pageBytes;
  }

  /** A sequence that will never be refused its first `pages` pages; null when too few are open or every slot is taken. */
  open(entryType: EntryType, pages: number): KvSequence | null {
    const id = this.ledger.open(entriesPerPageOf(entryType, this.shape.headDim));
    if (id === null) return null;
    if (this.ledger.reserve(id, pages)) return new KvSequence(this, this.#backend, this.#pool, id, entryType);
    this.ledger.close(id);
    return null;
  }

  close(): void {
    this.#backend.free(this.#pool);
    this.#host.free(this.#ledgerAddress);
  }
}

/** One request's entries in every (layer, KV head). Closing gives every page back; a closed sequence throws when used. */
export class KvSequence implements KeptStore, AppendableCache {
  readonly entryType: EntryType;
  /** Highest value of held pages plus `scratchBytes`. */
  peakBytes = 0;
  /** Bytes of keys and values that live outside the pages: the layer being read. */
  scratchBytes = 0;
  #shift = 0;
  /** Of a prompt that was renumbered: how many tokens, and the positions that each list kept of them, ascending. */
  #renumbered: { readonly covered: number; readonly kept: readonly Uint32Array[] } | null = null;
  readonly #cache: KvCache;
  readonly #backend: Backend;
  readonly #pool: DeviceBuffer;
  readonly #id: number;
  readonly #entriesPerPage: number;
  #closed = false;

  constructor(cache: KvCache, backend: Backend, pool: DeviceBuffer, id: number, entryType: EntryType) {
    this.#cache = cache;
    this.#backend = backend;
    this.#pool = pool;
    this.#id = id;
    this.entryType = entryType;
    this.#entriesPerPage = entriesPerPageOf(entryType, cache.shape.headDim);
  }

  /** By how many positions a press moved kept entries together. */
  get shift(): number {
    return this.#shift;
  }

  /**
   * The entries of `covered` tokens stand at positions 0..next-1 of RoPE from now on; the ledger still names their tokens. Where every single one stands is
   * remembered only if somebody is going to ask, and has to be before any of them goes.
   */
  renumber(covered: number, next: number, remember: boolean): void {
    this.#shift = covered - next;
    if (this.#shift === 0 || !remember) return;
    const { layers, kvHeads } = this.#cache.shape;
    const kept = Array.from({ length: layers * kvHeads }, (_, list) => this.#ledger.read(this.#id, list).positions.sort());
    this.#renumbered = { covered, kept };
  }

  /** Where tokens of these positions in the text stand, as RoPE has it. */
  standing(layer: number, head: number, positions: Uint32Array): Uint32Array {
    if (this.#shift === 0) return positions;
    if (this.#renumbered === null) throw new Error('where renumbered entries stand was not remembered');
    const { covered, kept } = this.#renumbered;
    const places = new Map(Array.from(kept[layer * this.#cache.shape.kvHeads + head], (position, i) => [position, i]));
    return positions.map((position) => (position < covered ? places.get(position)! : position - this.#shift));
  }

  /**
   * A sequence with the same entries on the same pages, that may take `pages` of its own: for what it appends, and for copies of shared pages that it writes to.
   * Neither sees what the other writes from now on. Null when too few are open or every slot is taken.
   */
  fork(pages: number): KvSequence | null {
    const id = this.#ledger.fork(this.#id, pages);
    if (id === null) return null;
    const fork = new KvSequence(this.#cache, this.#backend, this.#pool, id, this.entryType);
    fork.#shift = this.#shift;
    fork.#renumbered = this.#renumbered;
    fork.peakBytes = fork.heldBytes;
    return fork;
  }

  /** From now on others fork it: nothing is set aside for it, and it stays until it is closed. */
  settle(): void {
    this.#ledger.reserve(this.#id, 0);
    this.#cache.settled.add(this);
  }

  /** Entries of each list, layer by layer. */
  get lengths(): Uint32Array {
    return this.#ledger.allLengths(this.#id);
  }

  /** Pages in its lists, shared ones too. */
  get heldBytes(): number {
    return this.#ledger.pagesOf(this.#id) * this.#cache.pageBytes;
  }

  /** Of these, pages that another sequence holds too. Looks at every one. */
  get sharedBytes(): number {
    return this.#ledger.sharedPagesOf(this.#id) * this.#cache.pageBytes;
  }

  /** From now on at most `pages` pages are set aside for this sequence; the rest is open to others. */
  shrinkReservation(pages: number): void {
    this.#ledger.reserve(this.#id, pages);
  }

  layer(layer: number): PagedLayer {
    return {
      pool: this.#pool,
      pageBytes: this.#cache.pageBytes,
      entryType: this.entryType,
      entriesPerPage: this.#entriesPerPage,
      ...this.#ledger.layer(this.#id, layer * this.#cache.shape.kvHeads),
    };
  }

  append(layer: number, k: View, v: View, n: number, start: number): void {
    const { kvHeads } = this.#cache.shape;
    const from: number[] = [];
    for (let head = 0; head < kvHeads; head++) {
      from.push(this.#room(layer, head, n));
      this.#ledger.writeRun(this.#id, layer * kvHeads + head, from[head], n, start);
    }
    this.#backend.storeEntries(this.layer(layer), { from, counts: from.map(() => n) }, k, v, null, this.#cache.shape);
    this.#notePeak();
  }

  async keep({ layer, k, v }: LayerTensors, { order, counts, host }: KeptRows): Promise<void> {
    const { kvHeads } = this.#cache.shape;
    const from = counts.map((count, head) => this.#room(layer, head, count));
    this.#backend.storeEntries(this.layer(layer), { from, counts }, k, v, order, this.#cache.shape);
    this.#notePeak();
    const { ranks, scores } = await host;
    for (let head = 0; head < kvHeads; head++) {
      const list = layer * kvHeads + head;
      const left = Math.min(counts[head], this.#ledger.length(this.#id, list)); // it may have been truncated meanwhile
      this.#ledger.writeRanked(this.#id, list, from[head], ranks[head].subarray(0, left), scores[head]);
    }
  }

  /** Entries in all lists of a layer. */
  entriesOf(layer: number): number {
    const { kvHeads } = this.#cache.shape;
    return Array.from({ length: kvHeads }, (_, head) => this.#ledger.length(this.#id, layer * kvHeads + head)).reduce((a, b) => a + b, 0);
  }

  /** Where the entries of a list stood in the text, in list order. */
  positions(layer: number, head: number): Uint32Array {
    return this.entries(layer, head).positions;
  }

  /** The score of each entry of a list, in list order. */
  scores(layer: number, head: number): Float32Array {
    return this.entries(layer, head).scores;
  }

  /** Entries as rows: row i of k, v ([n, heads, d] f32) has entry entries[h][i] of head first + h. */
  read(layer: number, first: number, entries: readonly Uint32Array[], k: View, v: View): void {
    const { kvHeads, headDim } = this.#cache.shape;
    const places = new Uint32Array(entries.length * entries[0].length);
    for (const [h, list] of entries.entries()) {
      const lie = this.#ledger.places(this.#id, layer * kvHeads + first + h, list);
      for (const [i, place] of lie.entries()) places[i * entries.length + h] = place;
    }
    this.#backend.readEntries(k, v, this.layer(layer), places, headDim);
  }

  /**
   * Lets go of all but some entries of every list of a layer: those that stay move into the places of those that go, bit for bit, and pages return
   * to the pool at once. Lists are in no order afterwards; what is appended later still comes last. Returns the entries that now stand in each list.
   */
  retain(layer: number, kept: readonly Uint32Array[]): Uint32Array[] {
    const { kvHeads, headDim } = this.#cache.shape;
    const moves: Uint32Array[] = [];
    const stand = kept.map((kept, head) => {
      const list = layer * kvHeads + head;
      const result = new Uint32Array(kept.length).fill(GAP);
      for (const entry of kept) if (entry < kept.length) result[entry] = entry;
      const pairs: number[] = [];
      for (let to = 0, i = 0; to < kept.length; to++) {
        if (result[to] !== GAP) continue;
        while (kept[i] < kept.length) i++; // as many stand behind the new end as there are gaps before it
        result[to] = kept[i++];
        pairs.push(result[to], to);
        this.#ledger.move(this.#id, list, result[to], to);
      }
      moves.push(this.#ledger.places(this.#id, list, Uint32Array.from(pairs)));
      return result;
    });
    for (const pairs of moves) this.#backend.moveEntries(this.layer(layer), pairs, headDim);
    for (const [head, { length }] of kept.entries()) this.truncate(layer, head, length);
    return stand;
  }

  /** Writes all entries of some heads anew: entry i of head first + h is row order[h, i] of k, v ([*, heads, d]). */
  rewrite(layer: number, first: number, heads: number, order: RankOrder, k: View, v: View): void {
    const { kvHeads, headDim } = this.#cache.shape;
    const list = layer * kvHeads + first;
    const counts = Array.from({ length: heads }, (_, h) => this.#ledger.length(this.#id, list + h));
    for (const [h, count] of counts.entries()) this.#ledger.own(this.#id, list + h, 0, count);
    const lists = { ...this.layer(layer), ...this.#ledger.layer(this.#id, list) };
    this.#backend.storeEntries(lists, { from: counts.map(() => 0), counts }, k, v, order, { kvHeads: heads, headDim });
  }

  /** The entry of each token from..from + scores.length - 1 that the list holds has that token's score from now on. */
  score(layer: number, head: number, from: number, scores: Float32Array): void {
    const list = layer * this.#cache.shape.kvHeads + head;
    for (const [entry, position] of this.positions(layer, head).entries()) {
      const token = position - from;
      if (token >= 0 && token < scores.length) this.#ledger.writeRun(this.#id, list, entry, 1, position, scores[token]);
    }
  }

  /** The bytes of every page of a list, as they lie on the device. */
  async readPages(layer: number, head: number): Promise<Uint8Array[]> {
    const { pageBytes, shape } = this.#cache;
    const read: Uint8Array[] = [];
    for (;;) {
      const pages = this.#ledger.pages(this.#id, layer * shape.kvHeads + head); // throws once they may be somebody else's
      const some = [...pages.subarray(read.length, read.length + READ_AT_ONCE)]; // they share one wait
      if (some.length === 0) return read;
      read.push(...(await Promise.all(some.map((page) => this.#backend.read(at(this.#pool, page * pageBytes), pageBytes)))));
    }
  }

  /** The entries of an empty list: where they stood in the text, their scores where somebody will ask, and the bytes of its pages. */
  fill(layer: number, head: number, positions: Uint32Array, scores: Float32Array | null, pages: readonly Uint8Array[]): void {
    if (positions.length === 0) return;
    const list = layer * this.#cache.shape.kvHeads + head;
    if (this.#room(layer, head, positions.length) !== 0) throw new Error('a list that is filled must be empty');
    const byToken = new Float32Array(positions.reduce((most, position) => Math.max(most, position + 1), 0));
    if (scores) for (const [i, position] of positions.entries()) byToken[position] = scores[i];
    this.#ledger.writeRanked(this.#id, list, 0, positions, byToken);
    for (const [i, page] of this.#ledger.pages(this.#id, list).entries()) this.#backend.write(at(this.#pool, page * this.#cache.pageBytes), pages[i]);
    this.#notePeak();
  }

  /** Lets go of the newest `count` entries of every list: tokens that were read ahead and are not part of the answer. */
  dropNewest(count: number): void {
    const { layers, kvHeads } = this.#cache.shape;
    for (let list = 0; list < layers * kvHeads; list++) this.#ledger.truncate(this.#id, list, this.#ledger.length(this.#id, list) - count);
  }

  truncate(layer: number, head: number, count: number): void {
    this.#ledger.truncate(this.#id, layer * this.#cache.shape.kvHeads + head, count);
  }

  /** Original positions and scores of a list, best first. */
  entries(layer: number, head: number): { positions: Uint32Array; scores: Float32Array } {
    return this.#ledger.read(this.#id, layer * this.#cache.shape.kvHeads + head);
  }

  close(): void {
    if (this.#closed) return;
    this.#cache.settled.delete(this);
    this.#ledger.close(this.#id);
    this.#closed = true;
  }

  get #ledger(): Ledger {
    if (this.#closed) throw new GivenUp('this sequence is closed: its request was given up');
    return this.#cache.ledger;
  }

  #room(layer: number, head: number, count: number): number {
    const from = this.#ledger.append(this.#id, layer * this.#cache.shape.kvHeads + head, count);
    if (from === null) throw new Error(`the KV pool is full although its pages were reserved (layer ${layer}, head ${head}, ${count} entries)`);
    return from;
  }

  #notePeak(): void {
    this.peakBytes = Math.max(this.peakBytes, this.heldBytes + this.scratchBytes);
  }
}
