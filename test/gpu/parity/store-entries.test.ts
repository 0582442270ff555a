import { afterAll, beforeAll, expect, test } from 'vitest';
import type { EntryType } from '../../../worker/backend/backend.ts';
import { entriesPerPageOf } from '../../../worker/engine/kv-cache.ts';
import { type Backends, onEach, openBackends } from '../../support/gpu-backends.ts';
import { awkwardFloats } from '../../support/half.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

interface Case {
  readonly type: EntryType;
  readonly d: number;
  readonly from: readonly number[];
  readonly counts: readonly number[];
  readonly E?: number;
  readonly ordered?: boolean;
  /** Instead of random rows: K's, and V's are its negative. */
  readonly rows?: Float32Array;
}

interface Stored {
  readonly bytes: Uint8Array;
  /** Offsets of the scales, f32. */
  readonly scales: Set<number>;
}

/** Stores into pools full of 0xa5, so that what should not be written shows too. */
async function store({ type, d, from, counts, E = entriesPerPageOf(type, d), ordered = false, rows }: Case) {
  const random = new Random(1);
  const { kernels, gpu } = backends;
  const H = counts.length;
  const most = Math.max(...counts);
  const n = ordered ? most + 10 : most;
  const scalesAt = (2 * E * d + 3) & ~3;
  const pageBytes = { f32: 2 * E * d * 4, f16: 2 * E * d * 2, int8: scalesAt + 2 * E * 4 }[type];
  const tableStride = Math.ceil(Math.max(...from.map((slot, h) => slot + counts[h])) / E) + 1;
  const pages = Array.from({ length: H * tableStride }, (_, i) => (i * 7) % (H * tableStride));
  const distinct = new Set(pages).size === pages.length ? pages : pages.map((_, i) => pages.length - 1 - i);
  const k = rows ?? random.normals(n * H * d, 10 ** random.int(-6, 4));
  const v = rows ? rows.map((x) => -x) : random.normals(n * H * d);
  const rank = ordered ? Uint32Array.from({ length: H * (most + 3) }, () => random.int(0, n - 1)) : null;
  const pageTable = kernels.heap.alloc(distinct.length * 4, 'test table');
  kernels.u32(pageTable, distinct.length).set(distinct);
  const shape = { kvHeads: H, headDim: d };
  const layer = { pageBytes, entryType: type, entriesPerPage: E, lengths: 0, pageTable, tableStride, positions: 0, slotStride: E };
  const results = await onEach(backends, async (bench) => {
    const pool = bench.put(new Uint8Array(distinct.length * pageBytes).fill(0xa5));
    const order = rank ? { rows: bench.put(rank), stride: most + 3 } : null;
    const [keys, values] = [bench.put(k), bench.put(v)];
    const before = gpu.recorder.counts.dispatches;
    bench.backend.storeEntries({ ...layer, pool }, { from, counts }, keys, values, order, shape);
    if (bench.backend === gpu) expect(gpu.recorder.counts.dispatches - before).toBe(1);
    return bench.backend.read(pool, distinct.length * pageBytes);
  });
  kernels.heap.free(pageTable);
  const scales = new Set<number>();
  if (type === 'int8')
    for (let page = 0; page < distinct.length; page++) for (let i = 0; i < 2 * E; i++) scales.add(page * pageBytes + scalesAt + i * 4);
  const stored = (bytes: Uint8Array): Stored => ({ bytes: bytes.slice(), scales });
  return { gpu: stored(results.gpu), wasm: stored(results.wasm), reference: stored(results.reference) };
}

/** int8: values within one step, for x / scale near a half may round either way; scales within 3e-7, for a GPU's division may be off by 2.5 ulp. */
function expectNear(what: string, got: Stored, want: Stored): number {
  const [a, b] = [got, want].map(({ bytes }) => new DataView(bytes.buffer));
  let steps = 0;
  for (let at = 0; at < got.bytes.length; at += 4) {
    if (got.scales.has(at)) {
      const [x, y] = [a.getFloat32(at, true), b.getFloat32(at, true)];
      if (!(Math.abs(x - y) <= 3e-7 * Math.abs(y))) throw new Error(`${what}: scale at ${at} is ${x}, ${y} expected`);
      continue;
    }
    for (let byte = at; byte < at + 4; byte++) {
      const off = Math.abs(a.getInt8(byte) - b.getInt8(byte));
      if (off > 1) throw new Error(`${what}: byte ${byte} is ${a.getInt8(byte)}, ${b.getInt8(byte)} expected`);
      steps += off;
    }
  }
  return steps;
}

const RUNS: Pick<Case, 'from' | 'counts' | 'ordered'>[] = [
  { from: [0], counts: [1] },
  { from: [15, 16, 31], counts: [1, 1, 1] },
  { from: [0, 0], counts: [37, 50], ordered: true },
  { from: [5, 60, 31], counts: [70, 0, 9] },
  { from: [3, 17], counts: [8, 65], ordered: true },
];

for (const software of [false, true]) {
  const adapters = software ? 'software adapters' : 'real GPUs';

  test(`store-entries for ${adapters}: f32 and f16 pages equal byte for byte, NaN payloads too, and nothing else is written; one dispatch`, async () => {
    Object.defineProperty(backends.gpu, 'software', { value: software });
    for (const type of ['f32', 'f16'] as const)
      for (const d of [4, 20, 64, 80, 128])
        for (const run of RUNS) {
          const { gpu, wasm, reference } = await store({ type, d, ...run });
          expect(Buffer.compare(gpu.bytes, wasm.bytes), `${type} ${d} ${JSON.stringify(run)}`).toBe(0);
          expect(Buffer.compare(gpu.bytes, reference.bytes), `${type} ${d} ${JSON.stringify(run)}`).toBe(0);
        }
    const rows = new Float32Array(Uint32Array.of(0x7fc12345, 0xffc54321, 0x7f800000, 0x80000000, 1, 0x807fffff, 0x00400000, 0x7f7fffff).buffer);
    const { gpu, wasm } = await store({ type: 'f32', d: 8, from: [2], counts: [1], rows });
    expect(Buffer.compare(gpu.bytes, wasm.bytes)).toBe(0);
  });

  test(`store-entries for ${adapters}: every half, every tie and its neighbours are stored as WASM stores them; so are numbers too large and NaN`, async () => {
    Object.defineProperty(backends.gpu, 'software', { value: software });
    const rows = awkwardFloats();
    const d = 4;
    const { gpu, wasm, reference } = await store({ type: 'f16', d, from: [0], counts: [rows.length / d], rows });
    expect(Buffer.compare(gpu.bytes, wasm.bytes)).toBe(0);
    expect(Buffer.compare(gpu.bytes, reference.bytes)).toBe(0);
  });

  test(`store-entries for ${adapters}: int8 values within one step, one in 10,000 off at all; scales 3e-7; nothing else is written`, async () => {
    Object.defineProperty(backends.gpu, 'software', { value: software });
    let [steps, values] = [0, 0];
    for (const d of [4, 20, 64, 96, 128])
      for (const [i, run] of RUNS.entries()) {
        const { gpu, wasm, reference } = await store({ type: 'int8', d, E: [undefined, 3, 7][i % 3], ...run });
        steps += expectNear(`${d} ${JSON.stringify(run)} to WASM`, gpu, wasm);
        expectNear(`${d} ${JSON.stringify(run)} to float64`, gpu, reference);
        values += 2 * d * run.counts.reduce((a, b) => a + b);
      }
    expect(steps).toBeLessThan(values / 10_000);
  });

  test(`store-entries for ${adapters}: int8 rounds halves to even, keeps rows of zeros and tiny rows finite, and a NaN loud`, async () => {
    Object.defineProperty(backends.gpu, 'software', { value: software });
    const rows = Float32Array.of(
      ...[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -127],
      ...[0, 0, 0, 0, 0, 0, 0, 0],
      ...[1e-40, 1e-37, 0, 0, 0, 0, 0, 0],
      ...[1, 2, NaN, 4, 5, 6, 7, 8],
    );
    const { gpu } = await store({ type: 'int8', d: 8, E: 4, from: [0], counts: [4], rows });
    const page = new DataView(gpu.bytes.buffer);
    const values = (row: number) => Array.from({ length: 8 }, (_, c) => page.getInt8(row * 8 + c));
    const scale = (row: number) => page.getFloat32(64 + row * 4, true);
    expect([values(0), scale(0)]).toEqual([[127, 0, 2, 2, 0, -2, -2, -127], 1]);
    expect([values(4), scale(4)]).toEqual([[-127, 0, -2, -2, 0, 2, 2, 127], 1]);
    for (const row of [1, 2, 5, 6]) expect([values(row), scale(row)]).toEqual([[0, 0, 0, 0, 0, 0, 0, 0], 0]);
    for (const row of [3, 7]) expect(scale(row)).toBeNaN();
  });
}

test('nothing stays allocated', () => {
  expect(backends.gpu.buffers.live).toEqual([]);
});
