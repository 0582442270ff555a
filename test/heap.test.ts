/** The allocator over linear memory, against a model that knows every byte. */
import { describe, expect, test } from 'vitest';
import { OutOfDeviceMemory } from '../worker/backend/backend.ts';
import { Heap } from '../worker/backend/heap.ts';
import { Random } from './support/random.ts';

const PAGE = 65536;

function heapOf({ base = 1000, pages = 64, limit = pages * PAGE }: { base?: number; pages?: number; limit?: number } = {}): Heap {
  return new Heap(new WebAssembly.Memory({ initial: 1, maximum: pages }), base, limit);
}

function failure(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('it was expected to fail');
}

describe('heap', () => {
  test('blocks never overlap, lie aligned between base and limit, and keep what is written, over 5,000 random calls', () => {
    const random = new Random(1);
    const heap = heapOf({ base: 12345, pages: 16 });
    const live: { address: number; bytes: number; mark: number }[] = [];
    let refused = 0;
    for (let i = 0; i < 5_000; i++) {
      if (random.next() < 0.55 || live.length === 0) {
        const bytes = random.pick([0, 1, 63, 64, 65, random.int(0, 5000), random.int(0, 300_000)]);
        try {
          const address = heap.alloc(bytes, 'a block');
          const mark = i & 255;
          new Uint8Array(heap.memory.buffer, address, bytes).fill(mark);
          live.push({ address, bytes, mark });
          expect(address % 64).toBe(0);
          expect(address).toBeGreaterThanOrEqual(12345);
          expect(address + bytes).toBeLessThanOrEqual(16 * PAGE);
        } catch (error) {
          expect(error).toBeInstanceOf(OutOfDeviceMemory);
          refused++;
        }
      } else {
        const [{ address, bytes, mark }] = live.splice(random.int(0, live.length - 1), 1);
        const seen = new Uint8Array(heap.memory.buffer, address, bytes);
        expect(seen.every((byte) => byte === mark)).toBe(true);
        heap.free(address);
      }
      const rounded = live.reduce((sum, { bytes }) => sum + Math.max(64, Math.ceil(bytes / 64) * 64), 0);
      expect(heap.usedBytes).toBe(rounded);
      expect(heap.peakBytes).toBeGreaterThanOrEqual(heap.usedBytes);
      if (i % 100 === 0) {
        const sorted = [...live].sort((a, b) => a.address - b.address);
        for (const [at, { address }] of sorted.entries())
          if (at > 0) expect(address).toBeGreaterThanOrEqual(sorted[at - 1].address + sorted[at - 1].bytes);
        expect(heap.freeBytes + rounded).toBe(16 * PAGE - Math.ceil(12345 / 64) * 64);
      }
    }
    expect(refused).toBeGreaterThan(100);
    for (const { address } of live) heap.free(address);
    expect(heap.usedBytes).toBe(0);
    // All holes have grown together: the whole range is one block again.
    const all = heap.freeBytes;
    expect(all).toBe(16 * PAGE - Math.ceil(12345 / 64) * 64);
    expect(heap.alloc(all, 'everything')).toBe(Math.ceil(12345 / 64) * 64);
  });

  test('neighbours grow together in any order of freeing', () => {
    for (const order of [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [1, 3, 2, 0],
      [0, 2, 1, 3],
      [2, 0, 3, 1],
    ]) {
      const heap = heapOf();
      const blocks = order.map(() => heap.alloc(1000, 'a block'));
      const wall = heap.alloc(64, 'a wall');
      for (const i of order) heap.free(blocks[i]);
      expect(heap.alloc(4 * 1024, 'as large as all four')).toBe(blocks[0]);
      heap.free(wall);
    }
  });

  test('the first hole that is large enough is taken, and its rest stays free', () => {
    const heap = heapOf();
    const [small, , large] = [128, 64, 256, 64].map((bytes) => heap.alloc(bytes, 'a block'));
    heap.free(small);
    heap.free(large);
    expect(heap.alloc(192, 'b')).toBe(large);
    expect(heap.alloc(128, 'c')).toBe(small);
    expect(heap.alloc(64, 'd')).toBe(large + 192);
  });

  test('memory grows on demand, up to the limit and not beyond', () => {
    const heap = heapOf({ base: 0, pages: 16, limit: 8 * PAGE });
    expect(heap.memory.buffer.byteLength).toBe(PAGE);
    const block = heap.alloc(3 * PAGE, 'three pages');
    expect(heap.memory.buffer.byteLength).toBe(3 * PAGE);
    expect(failure(() => heap.alloc(5 * PAGE + 1, 'too much'))).toMatchObject({ neededBytes: 5 * PAGE + 64, freeBytes: 5 * PAGE });
    expect(heap.usedBytes).toBe(3 * PAGE); // nothing changed
    heap.alloc(5 * PAGE, 'the rest');
    expect(heap.freeBytes).toBe(0);
    heap.free(block);
    expect(heap.freeBytes).toBe(3 * PAGE);
    expect(heap.alloc(3 * PAGE, 'three pages')).toBe(block);
  });

  test('a limit that is no multiple of a page is kept to, and a host that gives less than it promised is OutOfDeviceMemory', () => {
    const heap = heapOf({ base: 0, pages: 4, limit: 2 * PAGE + 128 });
    heap.alloc(2 * PAGE, 'a block');
    heap.alloc(128, 'a block');
    expect(failure(() => heap.alloc(1, 'one more'))).toBeInstanceOf(OutOfDeviceMemory);

    const short = heapOf({ base: 0, pages: 2, limit: 8 * PAGE }); // the memory's own maximum is below the limit
    expect(failure(() => short.alloc(3 * PAGE, 'weights'))).toMatchObject({
      name: 'OutOfDeviceMemory',
      message: expect.stringContaining('weights needs 196608 bytes'),
    });
    expect(short.usedBytes).toBe(0);
    short.alloc(2 * PAGE, 'what there is');
  });

  test('what is not allocated cannot be freed', () => {
    const heap = heapOf();
    const block = heap.alloc(100, 'a block');
    expect(() => heap.free(block + 64)).toThrow(/not allocated/);
    heap.free(block);
    expect(() => heap.free(block)).toThrow(/not allocated/);
    expect(heap.usedBytes).toBe(0);
  });

  test('the peak is the most that was in use, and can be set back', () => {
    const heap = heapOf();
    const a = heap.alloc(640, 'a');
    heap.free(a);
    heap.alloc(64, 'b');
    expect([heap.usedBytes, heap.peakBytes]).toEqual([64, 640]);
    heap.peakBytes = heap.usedBytes;
    expect(heap.peakBytes).toBe(64);
  });
});
