import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DeviceBuffer, type EntryType, entryTypes, type PagedLayer } from '../../../worker/backend/backend.ts';
import { entriesPerPageOf } from '../../../worker/engine/kv-cache.ts';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { fromHalf, toHalf } from '../../support/half.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

interface Case {
  readonly type: EntryType;
  readonly n: number;
  /** Entries of each KV head, the queries' own included. */
  readonly lengths: readonly number[];
  readonly G: number;
  readonly d: number;
  readonly E?: number;
  readonly window?: number;
  /** Where the queries stand beyond what they would after their lists; with a window they may see nothing. */
  readonly further?: number;
}

interface Made {
  readonly layer: Omit<PagedLayer, 'pool'>;
  readonly pool: Uint8Array;
  readonly largest: number; // |v|
  readonly start: number;
  free(): void;
}

/** Pages in any order, full of rows; lists of them in the ledger's memory, entries in any order of position but for the queries' own, which come last. */
function make(random: Random, { type, n, lengths, d, E = entriesPerPageOf(type, d), further = 0 }: Case): Made {
  const { kernels } = backends;
  const H = lengths.length;
  const scales = (2 * E * d + 3) & ~3;
  const pageBytes = { f32: 2 * E * d * 4, f16: 2 * E * d * 2, int8: scales + 2 * E * 4 }[type];
  const tableStride = Math.max(...lengths.map((length) => Math.ceil(length / E))) + 2;
  const slotStride = E + 3;
  const pages = shuffled(
    random,
    Array.from({ length: H * tableStride }, (_, i) => i),
  );
  const pool = new Uint8Array(pages.length * pageBytes);
  let largest = 0;
  for (let page = 0; page < pages.length; page++) {
    const bytes = pool.subarray(page * pageBytes, (page + 1) * pageBytes);
    if (type === 'f32') {
      const rows = random.normals(2 * E * d);
      bytes.set(new Uint8Array(rows.buffer));
      largest = rows.subarray(E * d).reduce((most, x) => Math.max(most, Math.abs(x)), largest);
    } else if (type === 'f16') {
      // Every eighth subnormal or zero.
      const rows = Uint16Array.from(random.normals(2 * E * d), (x, i) => (i % 8 === 0 ? random.int(0, 1023) | (x < 0 ? 0x8000 : 0) : toHalf(x)));
      bytes.set(new Uint8Array(rows.buffer));
      largest = rows.subarray(E * d).reduce((most, x) => Math.max(most, Math.abs(fromHalf(x))), largest);
    } else {
      for (let i = 0; i < scales; i++) bytes[i] = random.int(0, 255);
      const steps = Float32Array.from({ length: 2 * E }, () => 0.01 + 0.02 * random.next());
      bytes.set(new Uint8Array(steps.buffer), scales);
      largest = 127 * 0.03;
    }
  }
  const addresses = [H, pages.length, pages.length * slotStride].map((words) => kernels.heap.alloc(words * 4, 'test lists'));
  const [lengthsAt, pageTable, positions] = addresses;
  kernels.u32(lengthsAt, H).set(lengths);
  kernels.u32(pageTable, pages.length).set(pages);
  const slots = kernels.u32(positions, pages.length * slotStride).fill(0x7fffffff); // a stray read sees the far future
  const longest = Math.max(n, ...lengths);
  for (const [h, length] of lengths.entries()) {
    const before = shuffled(
      random,
      Array.from({ length: longest - n }, (_, i) => i),
    );
    for (let e = 0; e < length; e++) {
      const own = e - (length - n);
      slots[pages[h * tableStride + Math.floor(e / E)] * slotStride + (e % E)] = own >= 0 ? longest - n + own : before[e];
    }
  }
  return {
    layer: { pageBytes, entryType: type, entriesPerPage: E, lengths: lengthsAt, pageTable, tableStride, positions, slotStride },
    pool,
    largest,
    start: longest - n + further,
    free: () => {
      for (const address of addresses) kernels.heap.free(address);
    },
  };
}

function shuffled<T>(random: Random, items: T[]): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.int(0, i);
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

/** Sums of f32 products and weights in another order: 1e-5 of the largest |v|. WASM rounds q and the weights of one query over int8 pages to 16 bits. */
const CLOSE = 1e-5;
const CLOSE_TO_WASM = (c: Case) => (c.type === 'int8' && c.n === 1 ? 1e-4 : CLOSE);

async function check(software: boolean, cases: readonly Case[]): Promise<void> {
  Object.defineProperty(backends.gpu, 'software', { value: software });
  const random = new Random(1);
  for (const c of cases) {
    const { n, lengths, G, d, window = 0 } = c;
    const [H, Hq] = [lengths.length, lengths.length * G];
    const { layer, pool, largest, start, free } = make(random, c);
    const q = random.normals(n * Hq * d);
    const shape = { queryHeads: Hq, kvHeads: H, headDim: d, scale: 1 / Math.sqrt(d), slidingWindow: window };
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(q.byteLength);
      const cache = { ...layer, pool: bench.put(pool) };
      const input = bench.put(q);
      const before = backends.gpu.recorder.counts.dispatches;
      bench.backend.attendPaged(out, input, cache, n, start, shape);
      expect(backends.gpu.recorder.counts.dispatches - before).toBeLessThanOrEqual(2);
      return bench.f32(out, q.length);
    });
    free();
    const what = JSON.stringify({ ...c, software });
    expectClose(`${what} to float64`, results.gpu, results.reference, () => CLOSE * largest);
    expectClose(`${what} to WASM`, results.gpu, results.wasm, () => CLOSE_TO_WASM(c) * largest);
  }
}

const TYPES = entryTypes;
const GROUPS = [1, 2, 3, 4, 5, 6, 7, 8];
/** Around pages, whose sizes need not divide tiles, and around tiles and splits of 64 entries. */
const LENGTHS: Case[] = TYPES.flatMap((type) =>
  [1, 2, 15, 16, 17, 60, 61, 63, 65, 127, 129, 300].map((length, i) => ({
    type,
    n: 1,
    lengths: [length],
    G: 3,
    d: 32,
    E: [undefined, 1, 3, 61][i % 4],
  })),
);
const RAGGED: Case[] = [1, 2, 7].flatMap((n) => TYPES.map((type) => ({ type, n, lengths: [n, n + 1, n + 500, n + 16], G: 3, d: 32 })));
const EMPTY: Case[] = TYPES.map((type) => ({ type, n: 1, lengths: [0, 5, 200], G: 4, d: 32 }));
/** With n queries blinds have 1, 8 or 16 bits. */
const WINDOWS: Case[] = [1, 2, 40, 260].flatMap((n) =>
  (n === 260 ? [100] : [1, 3, 75, 150, 1000]).map((window, i) => ({ type: TYPES[i % 3], n, window, lengths: [n + 140, n + 33], G: 1, d: 32 })),
);
const BLIND: Case[] = [1, 5].map((n) => ({ type: 'f32', n, window: 10, lengths: [n + 20, n + 170], G: 2, d: 32, further: 1000 }));
/** More lists than go up with a dispatch: 70,000 pages of one entry. */
const LONG: Case[] = [{ type: 'f32', n: 1, lengths: [70_000], G: 1, d: 4, E: 1 }];

test('attend-paged, one query, for real GPUs: 1e-5 of the largest |v| from float64, pages of every type, head_dim 32 to 256, every group, windows', () =>
  check(false, [
    ...[4, 20, 64, 80, 96, 128, 256].map((d, i): Case => ({ type: TYPES[i % 3], n: 1, lengths: [150, 77], G: 3, d })),
    ...GROUPS.map((G): Case => ({ type: TYPES[G % 3], n: 1, lengths: [150, 77], G, d: 32 })),
    ...[...LENGTHS, ...RAGGED, ...EMPTY, ...WINDOWS, ...BLIND, ...LONG].filter(({ n }) => n === 1),
  ]));

test('attend-paged, several queries, for real GPUs: likewise', () =>
  check(false, [
    ...[80, 96, 128].flatMap((d) => TYPES.map((type): Case => ({ type, n: 21, lengths: [150, 77], G: 3, d }))),
    ...GROUPS.map((G): Case => ({ type: TYPES[G % 3], n: 13, lengths: [350], G, d: 80 })),
    ...[...RAGGED, ...WINDOWS, ...BLIND].filter(({ n }) => n > 1).map((c) => ({ ...c, d: 80 })), // one pipeline takes seconds to compile on lavapipe
  ]));

test('attend-paged for software adapters: likewise', () =>
  check(true, [
    ...[4, 20, 64, 80, 96, 128, 256].flatMap((d) => TYPES.flatMap((type) => [1, 9].map((n): Case => ({ type, n, lengths: [150, 77], G: 3, d })))),
    ...GROUPS.map((G): Case => ({ type: TYPES[G % 3], n: 1 + (G % 3), lengths: [150, 77], G, d: 32 })),
    ...LENGTHS,
    ...RAGGED,
    ...EMPTY,
    ...WINDOWS,
    ...BLIND,
  ]));

test('attend-paged: a query that sees nothing gets zeros; one dispatch for a short list, two for a long one; the same inputs give the same bits', async () => {
  const random = new Random(3);
  const { gpu } = backends;
  const shape = { queryHeads: 4, kvHeads: 2, headDim: 32, scale: 0.2, slidingWindow: 0 };
  for (const software of [true, false]) {
    Object.defineProperty(gpu, 'software', { value: software });
    for (const [lengths, dispatches] of [
      [[0, 40], 1],
      [[0, 400], 2],
    ] as const) {
      const { layer, pool, start, free } = make(random, { type: 'int8', n: 1, lengths, G: 2, d: 32 });
      const q = random.normals(4 * 32);
      const { gpu: outs } = await onEach({ ...backends, wasm: backends.gpu as never, reference: backends.gpu as never }, async (bench) => {
        const cache = { ...layer, pool: bench.put(pool) };
        const [out, input] = [bench.put(new Float32Array(4 * 32).fill(NaN)), bench.put(q)];
        const before = gpu.recorder.counts.dispatches;
        gpu.attendPaged(out, input, cache, 1, start, shape);
        expect(gpu.recorder.counts.dispatches - before).toBe(dispatches);
        const first = await bench.f32(out, 4 * 32);
        gpu.attendPaged(out, input, cache, 1, start, shape);
        expect(await bench.f32(out, 4 * 32)).toEqual(first);
        return first;
      });
      free();
      expect([...outs.subarray(0, 64)].every((x) => x === 0)).toBe(true);
      expect([...outs.subarray(64)].every((x) => x !== 0)).toBe(true);
    }
  }
});

test('scratchBytes is what the parts of a layer take at most', () => {
  const shape = { queryHeads: 32, kvHeads: 8, headDim: 128, scale: 1, slidingWindow: 0 };
  const { gpu, kernels } = backends;
  const addresses = [8, 8 * 2048].map((words) => kernels.heap.alloc(words * 4, 'test lists'));
  const [lengths, pageTable] = addresses;
  kernels.u32(lengths, 8).fill(2048 * 16);
  kernels.u32(pageTable, 8 * 2048).fill(0);
  const pool = gpu.alloc(16 * 2 * 128 * 4, 'pool');
  const x = gpu.alloc(512 * 32 * 128 * 4, 'queries');
  const out = gpu.alloc(512 * 32 * 128 * 4, 'out');
  const layer = {
    pool,
    pageBytes: pool.bytes,
    entryType: 'f32',
    entriesPerPage: 16,
    lengths,
    pageTable,
    tableStride: 2048,
    positions: 0,
    slotStride: 16,
  } as const;
  const { dispatch } = gpu.recorder;
  const used = gpu.memory.usedBytes;
  for (const software of [true, false]) {
    Object.defineProperty(gpu, 'software', { value: software });
    const most = gpu.scratchBytes(0, 0, shape);
    gpu.recorder.dispatch = (name, how) => {
      if (name === 'attend-merge') expect((how.views.parts as DeviceBuffer).bytes).toBeLessThanOrEqual(most);
    };
    for (const n of [1, 2, 3, 4, 8, 9, 63, 64, 65, 500]) gpu.attendPaged(out, x, layer, n, 0, shape);
  }
  gpu.recorder.dispatch = dispatch;
  expect(gpu.memory.usedBytes).toBe(used);
  for (const buffer of [pool, x, out]) gpu.free(buffer);
  for (const address of addresses) kernels.heap.free(address);
});

test('nothing stays allocated', () => {
  expect(backends.gpu.buffers.live).toEqual([]);
});
