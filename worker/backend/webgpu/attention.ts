/** attend-causal, attend-paged and store-entries on the device. The ledger's lists are read when an operation is recorded, and go up with its dispatch. */
import { type AttentionShape, type EntryRuns, entryTypes, type PagedLayer, type RankOrder, type View } from '../backend.ts';
import type { GpuBlock } from './buffers.ts';
import { type Gpu, withScratch } from './gpu.ts';
import { type Dispatch, fold } from './recorder.ts';

type Heads = Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>;

export const HEAD_DIMS = { multipleOf: 4, most: 256 }; // sums in registers, queries in workgroup memory
const TILE_ROWS = 32; // of attend-tile
const MOST_DECODE_HEADS = 4; // that attend-decode takes at once: with 8, entries are read once for larger groups, but compiling takes twice as long
const ALONE_THREADS = 32; // in a workgroup of attend-causal's alone
const FEW_THREADS = 8; // in one of attend-paged's or store-entries', which often have few
const STORE_ROWS = 8; // in a workgroup of store-entries

/** Lists are split so that there is work for a whole device; the parts are merged by a second dispatch. */
const MOST_SPLITS = 64;
const DECODE_SPLIT = 64; // entries: the tile of attend-decode
const TILE_SPLIT = 128;
const WANTED_GROUPS = 256; // workgroups of attend-tile
const WANTED_THREADS = 128; // of attend-alone

const LARGEST_UPLOAD = 1 << 18; // with a dispatch, of the 1 MiB that the arena holds

export function attentionScratchBytes({ software }: Gpu, { queryHeads, headDim }: Heads): number {
  // Where lists are split there are fewer than WANTED_... without: less than twice that with.
  const rows = software ? 2 * WANTED_THREADS : Math.max(MOST_SPLITS * queryHeads, 2 * WANTED_GROUPS * TILE_ROWS);
  return partBytes(rows, headDim);
}

/** attend-out: the sums of a row, and a vec4 with its largest score and its total. */
function partBytes(rows: number, headDim: number): number {
  return rows * (headDim / 4 + 1) * 16;
}

export function attendCausal(gpu: Gpu, out: View, q: View, k: View, v: View, n: number, start: number, shape: AttentionShape): void {
  const { queryHeads, kvHeads, scale, slidingWindow } = shape;
  const vecs = vecsOf(shape, [out, q, k, v]);
  gpu.recorder.dispatch('attend-causal', {
    ...(gpu.software
      ? { entry: 'alone', grid: [Math.ceil((n * queryHeads) / ALONE_THREADS)] }
      : { constants: tileConstants(shape), grid: [Math.ceil((n * queryHeads) / kvHeads / TILE_ROWS), kvHeads] }),
    views: { q, k, v, out },
    dims: { n, start, queryHeads, kvHeads, vecs, slidingWindow, splits: 1, splitKeys: start + n, scale },
  });
}

export function attendPaged(gpu: Gpu, out: View, q: View, cache: PagedLayer, n: number, start: number, shape: AttentionShape): void {
  const { queryHeads, kvHeads, scale, slidingWindow } = shape;
  const vecs = vecsOf(shape, [out, q, cache.pool]);
  const { lists, longest, blindBits } = readLists(gpu, cache, n, start, kvHeads, slidingWindow);
  const { entry, constants, grid, splits, splitKeys } = plan(gpu, n, longest, shape);
  const rows = n * queryHeads;
  const pageWords = cache.pageBytes / 4;
  const entryType = entryTypes.indexOf(cache.entryType);
  const attend = (to: View, from: View | Uint32Array): void =>
    gpu.recorder.dispatch('attend-paged', {
      entry,
      constants,
      grid,
      views: { q, pool: cache.pool, words: cache.pool, lists: from, out: to },
      dims: { n, queryHeads, kvHeads, vecs, blindBits, splits, splitKeys, scale, entryType, pageWords, entriesPerPage: cache.entriesPerPage },
    });
  uploaded(gpu, lists, (from) => {
    if (splits === 1) attend(out, from);
    else
      withScratch(gpu, partBytes(splits * rows, shape.headDim), 'parts of attention', (parts) => {
        attend(parts, from);
        gpu.recorder.dispatch('attend-merge', { views: { parts, out }, dims: { rows, vecs, splits }, grid: fold(Math.ceil((rows * vecs) / 64)) });
      });
  });
}

export function storeEntries(
  gpu: Gpu,
  cache: PagedLayer,
  { from, counts }: EntryRuns,
  k: View,
  v: View,
  order: RankOrder | null,
  shape: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
): void {
  const { kvHeads } = shape;
  const vecs = vecsOf(shape, [k, v, cache.pool]);
  const E = cache.entriesPerPage;
  const table = new Uint32Array(gpu.ledgerMemory.buffer, cache.pageTable, kvHeads * cache.tableStride);
  const written = from.map((slot, h) => {
    const at = h * cache.tableStride;
    return table.subarray(at + Math.floor(slot / E), at + Math.ceil((slot + counts[h]) / E));
  });
  const lists = new Uint32Array(3 * kvHeads + written.reduce((sum, { length }) => sum + length, 0));
  for (let h = 0, end = 3 * kvHeads; h < kvHeads; h++) {
    lists[h] = from[h] % E;
    lists[kvHeads + h] = counts[h];
    lists[2 * kvHeads + h] = end;
    lists.set(written[h], end);
    end += written[h].length;
  }
  uploaded(gpu, lists, (view) =>
    gpu.recorder.dispatch('store-entries', {
      entry: gpu.software ? 'alone' : 'main',
      views: { k, v, order: order?.rows ?? null, lists: view, pool: cache.pool },
      dims: {
        kvHeads,
        vecs,
        ordered: Number(order !== null),
        stride: order?.stride ?? 0,
        entryType: entryTypes.indexOf(cache.entryType),
        pageWords: cache.pageBytes / 4,
        entriesPerPage: E,
      },
      grid: [Math.ceil(Math.max(0, ...counts) / STORE_ROWS), kvHeads, 2],
    }),
  );
}

interface Plan extends Pick<Dispatch, 'entry' | 'constants' | 'grid'> {
  readonly splits: number;
  readonly splitKeys: number;
}

/** Which entry goes over lists of at most `longest` entries, and in how many parts. */
function plan(gpu: Gpu, n: number, longest: number, shape: Heads): Plan {
  const { queryHeads, kvHeads } = shape;
  const group = queryHeads / kvHeads;
  if (gpu.software) {
    const cut = splitsOf(longest, Math.ceil(WANTED_THREADS / (n * queryHeads)), DECODE_SPLIT);
    return { entry: 'alone', constants: {}, grid: [Math.ceil((n * queryHeads * cut.splits) / FEW_THREADS)], ...cut };
  }
  if (n === 1) {
    const heads = Math.min(MOST_DECODE_HEADS, 2 ** Math.ceil(Math.log2(group)));
    const cut = splitsOf(longest, longest <= 2 * DECODE_SPLIT ? 1 : MOST_SPLITS, DECODE_SPLIT);
    return { entry: 'decode', constants: { HEADS: heads }, grid: [Math.ceil(group / heads), kvHeads, cut.splits], ...cut };
  }
  const blocks = Math.ceil((n * group) / TILE_ROWS);
  const cut = splitsOf(longest, Math.ceil(WANTED_GROUPS / (blocks * kvHeads)), TILE_SPLIT);
  return { entry: 'main', constants: tileConstants(shape), grid: [blocks, kvHeads, cut.splits], ...cut };
}

/** Few of them, since each makes a pipeline: lengths are Dims, but for the sums that a thread keeps. */
function tileConstants({ headDim }: Heads): { PAIRS: number } {
  return { PAIRS: Math.ceil(headDim / 64) };
}

/** At most `most` splits of a multiple of `unit` entries. */
function splitsOf(longest: number, most: number, unit: number): { splits: number; splitKeys: number } {
  const units = Math.max(1, Math.ceil(longest / unit));
  const splitKeys = Math.ceil(units / Math.min(most, MOST_SPLITS)) * unit;
  return { splits: Math.max(1, Math.ceil(longest / splitKeys)), splitKeys };
}

/** What attend-paged wants to know of the ledger, as its header draws it. Views are made anew: the memory may have grown. */
function readLists(gpu: Gpu, cache: PagedLayer, n: number, start: number, H: number, window: number) {
  const { buffer } = gpu.ledgerMemory;
  const E = cache.entriesPerPage;
  const lengths = new Uint32Array(buffer, cache.lengths, H);
  const table = new Uint32Array(buffer, cache.pageTable, H * cache.tableStride);
  const longest = lengths.reduce((a, b) => Math.max(a, b), 0);
  const blindBits = window === 0 || start + n <= window ? 0 : n === 1 ? 1 : n < 256 ? 8 : 16;
  const pages = Array.from(lengths, (length) => Math.ceil(length / E));
  const words = Array.from(lengths, (length) => Math.ceil((length * blindBits) / 32));
  const lists = new Uint32Array(3 * H + [...pages, ...words].reduce((a, b) => a + b, 0));
  let end = 3 * H;
  for (let h = 0; h < H; h++) {
    const at = h * cache.tableStride;
    lists[h] = lengths[h];
    lists[H + h] = end;
    lists.set(table.subarray(at, at + pages[h]), end);
    end += pages[h];
    lists[2 * H + h] = end;
    if (blindBits > 0) putBlinds(lists.subarray(end, end + words[h]), blindBits, buffer, cache, table.subarray(at), lengths[h], n, window - start);
    end += words[h];
  }
  return { lists, longest, blindBits };
}

/** Query i sees position p if p > start + i - window: those from p + window - start on do not. */
function putBlinds(
  to: Uint32Array,
  bits: number,
  buffer: ArrayBufferLike,
  { positions, slotStride, entriesPerPage: E }: PagedLayer,
  pages: Uint32Array,
  length: number,
  n: number,
  beyond: number,
): void {
  const all = new Uint32Array(buffer);
  const perWord = 32 / bits;
  for (let e = 0; e < length; e++) {
    const position = all[positions / 4 + pages[Math.floor(e / E)] * slotStride + (e % E)];
    const blind = Math.min(n, Math.max(0, position + beyond));
    to[Math.floor(e / perWord)] |= blind << ((e % perWord) * bits);
  }
}

/** Most lists are small and go up with the dispatch itself. */
function uploaded(gpu: Gpu, lists: Uint32Array, record: (lists: GpuBlock | Uint32Array) => void): void {
  if (lists.byteLength <= LARGEST_UPLOAD) record(lists);
  else
    withScratch(gpu, lists.byteLength, 'lists of the cache', (block) => {
      gpu.recorder.write(block, lists);
      record(block);
    });
}

/** d / 4, of a shape and views that kernels can take as vec4s. */
function vecsOf({ headDim }: Pick<Heads, 'headDim'>, views: readonly View[]): number {
  const { multipleOf, most } = HEAD_DIMS;
  if (headDim % multipleOf !== 0 || headDim > most)
    throw new Error(`attention takes a head_dim that is a multiple of ${multipleOf} up to ${most}, got ${headDim}`);
  for (const { buffer, offset } of views) if (offset % 16 !== 0) throw new Error(`${buffer.label}: offset ${offset} is not a multiple of 16`);
  return headDim / 4;
}
