/** The paged cache while a sequence runs: what stays keeps its bits, wherever it is moved to, and pages return at once; forks. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { at, type DeviceBuffer, type EntryType, entryTypes } from '../worker/backend/backend.ts';
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

/** SHA-256 of all that a sequence holds: its pages' bytes, positions and scores. */
async function hashOf(backend: WasmBackend, cache: KvCache, sequence: KvSequence): Promise<string> {
  const hash = createHash('sha256');
  const perPage = sequence.layer(0).entriesPerPage;
  for (let layer = 0; layer < shape.layers; layer++) {
    for (let head = 0; head < shape.kvHeads; head++) {
      const { positions, scores } = sequence.entries(layer, head);
      hash.update(positions).update(scores);
      const { pool, pageTable, tableStride } = sequence.layer(layer);
      const table = new Uint32Array(backend.kernels.memory.buffer, pageTable + head * tableStride * 4, Math.ceil(positions.length / perPage));
      for (const page of table) hash.update(await backend.read(at(pool, page * cache.pageBytes), cache.pageBytes));
    }
  }
  return hash.digest('hex');
}

test.each(entryTypes)('%s: forks append, evict, write anew and score in their own copies; what they share stays, bit for bit', async (type) => {
  const random = new Random(17);
  const { backend, cache, sequence: base } = await open(type);
  base.shrinkReservation(0);
  const { kvHeads: H, headDim: d, layers } = shape;
  const rows = (n: number): [DeviceBuffer, DeviceBuffer] => {
    const pair = [0, 0].map(() => backend.alloc(n * H * d * 4, 'rows')) as [DeviceBuffer, DeviceBuffer];
    for (const x of pair) backend.write(x, random.normals(n * H * d));
    return pair;
  };
  const append = (sequence: KvSequence, n: number, start: number): void => {
    const [k, v] = rows(n);
    for (let layer = 0; layer < layers; layer++) sequence.append(layer, k, v, n, start);
    for (const buffer of [k, v]) backend.free(buffer);
  };
  append(base, 75, 0);
  for (let layer = 0; layer < layers; layer++) base.truncate(layer, 1, 33); // lists of unequal length
  base.renumber(75, 70, true);
  base.settle();
  expect([cache.settledBytes, cache.requestPages]).toEqual([base.heldBytes, cache.pages - base.heldBytes / cache.pageBytes]);
  const before = await hashOf(backend, cache, base);
  const used = cache.usedBytes;

  const whole = base.heldBytes / cache.pageBytes;
  const forks = [0, 1, 2].map(() => base.fork(2 * whole)!);
  expect(forks.map((fork) => [fork.heldBytes, fork.sharedBytes, fork.shift, fork.peakBytes])).toEqual(
    Array(3).fill([base.heldBytes, base.heldBytes, 5, base.heldBytes]),
  );
  expect(forks[0].standing(0, 0, Uint32Array.of(3, 80))).toEqual(base.standing(0, 0, Uint32Array.of(3, 80)));
  expect(cache.usedBytes).toBe(used); // shared pages count once
  for (const fork of forks) expect(await hashOf(backend, cache, fork)).toBe(before);
  expect(base.fork(cache.pages)).toBeNull(); // the fourth slot is free, the pages are not
  cache.ledger.check();

  const [appends, evicts, rewrites] = forks;
  append(appends, 9, 75);
  const alone = await Promise.all([0, 1, 2].map((head) => entries(backend, appends, 0, head)));
  for (let layer = 0; layer < layers; layer++) {
    const held = Array.from({ length: H }, (_, head) => evicts.positions(layer, head).length);
    const kept = held.map((n) => Uint32Array.from({ length: n }, (_, i) => i).filter((i) => i % 3 !== 1));
    const bits = await Promise.all(held.map((_, head) => entries(backend, evicts, layer, head)));
    evicts.retain(layer, kept);
    for (let head = 0; head < H; head++) {
      const now = await entries(backend, evicts, layer, head);
      expect(now.size).toBe(kept[head].length);
      for (const [position, row] of now) expect(row).toBe(bits[head].get(position));
    }
    const n = rewrites.positions(layer, 0).length;
    const [k, v] = rows(n);
    const order = backend.alloc(n * 4, 'order');
    backend.write(
      order,
      Uint32Array.from({ length: n }, (_, i) => n - 1 - i),
    );
    rewrites.rewrite(layer, 0, 1, { rows: order, stride: n }, k, v);
    for (const buffer of [k, v, order]) backend.free(buffer);
    rewrites.score(
      layer,
      2,
      10,
      Float32Array.from({ length: 20 }, (_, i) => i / 4),
    );
    expect([...rewrites.scores(layer, 2).subarray(8, 14)]).toEqual([0, 0, 0, 0.25, 0.5, 0.75]);
  }
  append(evicts, 20, 75);
  expect(await Promise.all([0, 1, 2].map((head) => entries(backend, appends, 0, head)))).toEqual(alone);
  expect(await hashOf(backend, cache, base)).toBe(before);
  for (const fork of forks) expect(await hashOf(backend, cache, fork)).not.toBe(before);
  const perPage = base.layer(0).entriesPerPage;
  const full = layers * [75, 33, 75].reduce((sum, n) => sum + Math.floor(n / perPage), 0);
  expect(appends.sharedBytes / cache.pageBytes).toBe(full); // the last pages are its own now
  cache.ledger.check();

  base.close(); // what forks hold of it stays until they are done
  expect([cache.settled.size, cache.requestPages]).toEqual([0, cache.pages]);
  expect(await Promise.all([0, 1, 2].map((head) => entries(backend, appends, 0, head)))).toEqual(alone);
  for (const fork of forks) fork.close();
  expect([cache.usedBytes, cache.reservedBytes]).toEqual([0, 0]);
  cache.ledger.check();
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
