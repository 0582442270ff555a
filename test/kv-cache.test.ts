/** The paged cache while a sequence runs: what stays keeps its bits, wherever it is moved to, and pages return at once. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type EntryType, entryTypes } from '../worker/backend/backend.ts';
import { Kernels } from '../worker/backend/kernels.ts';
import { WasmBackend } from '../worker/backend/wasm.ts';
import { KvCache, type KvSequence } from '../worker/engine/kv-cache.ts';
import { RecentRows } from '../worker/engine/recent-rows.ts';
import { Random } from './support/random.ts';

const shape = { layers: 2, queryHeads: 6, kvHeads: 3, headDim: 20 };

async function open(entryType: EntryType) {
  const kernels = await Kernels.create({ kernels: { simd: await WebAssembly.compile(readFileSync('build/kernels.wasm')) } });
  const { heap, memory, exports } = kernels;
  const backend = new WasmBackend(kernels);
  const host = { exports, memory, alloc: (bytes: number, label: string) => heap.alloc(bytes, label), free: (address: number) => heap.free(address) };
  const cache = new KvCache(backend, host, shape, { poolBytes: 1 << 20, contextLength: 512, sequences: 4 });
  return { backend, cache, sequence: cache.open(entryType, cache.pages)! };
}

/** Every entry of a list by its position. */
async function entries(backend: WasmBackend, sequence: KvSequence, layer: number, head: number): Promise<Map<number, string>> {
  const positions = sequence.positions(layer, head);
  const n = positions.length;
  const [k, v] = [0, 0].map(() => backend.alloc(Math.max(4, n * shape.headDim * 4), 'rows'));
  if (n > 0) sequence.read(layer, head, [Uint32Array.from(positions, (_, i) => i)], k, v);
  const rows = await Promise.all([k, v].map((x) => backend.read(x, n * shape.headDim * 4)));
  for (const buffer of [k, v]) backend.free(buffer);
  const row = (bytes: Uint8Array, i: number) => Buffer.from(bytes.subarray(i * shape.headDim * 4, (i + 1) * shape.headDim * 4)).toString('hex');
  return new Map(Array.from(positions, (position, i) => [position, `${row(rows[0], i)} ${row(rows[1], i)}`]));
}

test.each(entryTypes)(
  '%s: after any number of rounds the entries that stayed are the bits that were stored, and only as many pages are held',
  async (type) => {
    const random = new Random(7);
    const { backend, cache, sequence } = await open(type);
    const { kvHeads: H, headDim: d, layers } = shape;
    const perPage = Math.floor(cache.pageBytes / (2 * { f32: 4 * d, f16: 2 * d, int8: d + 4 }[type]));
    const lists = Array.from({ length: layers }, (_, layer) => Array.from({ length: H }, (_, head) => [layer, head] as const)).flat();
    let position = 0;
    const heads = await Promise.all(lists.map(([layer, head]) => entries(backend, sequence, layer, head)));
    for (let round = 0; round < 25; round++) {
      const n = random.int(1, 40);
      const [k, v] = [0, 0].map(() => backend.alloc(n * H * d * 4, 'new rows'));
      for (let layer = 0; layer < layers; layer++) {
        for (const x of [k, v]) backend.write(x, random.normals(n * H * d));
        sequence.append(layer, k, v, n, position);
      }
      for (const buffer of [k, v]) backend.free(buffer);
      position += n;
      for (const [i, [layer, head]] of lists.entries()) {
        const now = await entries(backend, sequence, layer, head);
        for (const [at, bits] of heads[i]) expect(now.get(at)).toBe(bits);
        heads[i] = now;
      }
      if (random.next() < 0.3) {
        const count = random.int(0, n); // what was read ahead comes last, whatever was moved before
        sequence.dropNewest(count);
        position -= count;
        for (const list of heads) for (const at of [...list.keys()]) if (at >= position) list.delete(at);
      }
      for (let layer = 0; layer < layers; layer++) {
        const before = Array.from({ length: H }, (_, head) => sequence.positions(layer, head));
        const kept = before.map((list) => {
          const chance = random.pick([0, 0.1, 0.5, 0.9, 1]);
          const some = Array.from(list, (_, entry) => entry).filter(() => random.next() < chance);
          return Uint32Array.from(some.sort(() => random.next() - 0.5)); // in any order
        });
        const stand = sequence.retain(layer, kept);
        for (let head = 0; head < H; head++) {
          expect([...stand[head]].sort()).toEqual([...kept[head]].sort());
          expect(sequence.positions(layer, head)).toEqual(stand[head].map((entry) => before[head][entry]));
          heads[layer * H + head] = new Map(
            Array.from(stand[head], (entry) => [before[head][entry], heads[layer * H + head].get(before[head][entry])!]),
          );
        }
      }
      for (const [i, [layer, head]] of lists.entries()) expect(await entries(backend, sequence, layer, head)).toEqual(heads[i]);
      expect(sequence.heldBytes / cache.pageBytes).toBe(heads.reduce((sum, { size }) => sum + Math.ceil(size / perPage), 0));
      cache.ledger.check();
    }
    sequence.close();
    expect(cache.usedBytes).toBe(0);
  },
);

test('an entry is never written to a page that another sequence holds too', async () => {
  const { backend, cache, sequence } = await open('f32');
  const rows = backend.alloc(20 * shape.kvHeads * shape.headDim * 4, 'rows');
  sequence.append(0, rows, rows, 20, 0);
  const id = 0; // the first that was opened
  expect(cache.ledger.length(id, 0)).toBe(20);
  cache.ledger.fork(id);
  expect(() => cache.ledger.move(id, 0, 19, 0)).toThrow(/another sequence holds/);
  expect(() => cache.ledger.move(id, 0, 20, 0)).toThrow(/out of range/);
});

test('the last rows come out in order of the text, however they went round the ring', async () => {
  const { backend } = await open('f32');
  const random = new Random(3);
  for (const size of [1, 4, 7]) {
    const ring = new RecentRows(backend, 2, size, 3, 'rows');
    const [input, output] = [0, 0].map(() => backend.alloc(64 * 12, 'rows'));
    let seen = 0;
    for (let step = 0; step < 40; step++) {
      const count = random.int(1, 12); // tokens, of which the last n have rows
      const n = step === 0 ? Math.min(count, size) : count;
      for (let layer = 0; layer < 2; layer++) {
        const rowOf = (token: number): number[] => [token, layer, -token];
        const tokens = Array.from({ length: n }, (_, i) => seen + count - n + i);
        if (count === 1 && random.next() < 0.5) backend.write(ring.next(layer), Float32Array.from(rowOf(tokens[0])));
        else {
          backend.write(input, Float32Array.from(tokens.flatMap(rowOf)));
          ring.put(layer, input, n, count);
        }
      }
      seen += count;
      ring.advance(count);
      expect(ring.held).toBe(Math.min(size, seen));
      for (let layer = 0; layer < 2; layer++) {
        const want = random.int(1, ring.held);
        ring.read(output, layer, want);
        const bytes = await backend.read(output, want * 12);
        const got = [...new Float32Array(bytes.slice().buffer)];
        expect(got).toEqual(Array.from({ length: want }, (_, i) => [seen - want + i, layer, -(seen - want + i)]).flat());
      }
    }
    ring.close();
    expect(() => ring.next(0)).toThrow(/given up/);
    ring.close(); // twice is once
  }
});
