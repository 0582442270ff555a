/**
 * Allocator over one WebAssembly.Memory: first fit, neighbours coalesce, 64-byte aligned. Blocks are few and large (weights, the KV
 * pool, activations), so a sorted list is enough. Memory grows on demand up to `limitBytes` and never shrinks (WASM cannot).
 */
import { OutOfDeviceMemory } from './backend.ts';

const ALIGN = 64;
const WASM_PAGE = 65536;

export class Heap {
  readonly memory: WebAssembly.Memory;
  readonly limitBytes: number;
  usedBytes = 0;
  peakBytes = 0;
  #free: { start: number; end: number }[] = [];
  #sizes = new Map<number, number>();
  #top: number;

  constructor(memory: WebAssembly.Memory, base: number, limitBytes: number) {
    this.memory = memory;
    this.limitBytes = limitBytes;
    this.#top = alignUp(base);
  }

  /** Bytes that could still be allocated, if in one piece. */
  get freeBytes(): number {
    return this.limitBytes - this.#top + this.#free.reduce((sum, hole) => sum + hole.end - hole.start, 0);
  }

  alloc(bytes: number, label: string): number {
    const size = Math.max(ALIGN, alignUp(bytes));
    const hole = this.#free.findIndex(({ start, end }) => end - start >= size);
    let address: number;
    if (hole >= 0) {
      const block = this.#free[hole];
      address = block.start;
      block.start += size;
      if (block.start === block.end) this.#free.splice(hole, 1);
    } else {
      address = this.#extend(size, label);
    }
    this.#sizes.set(address, size);
    this.usedBytes += size;
    this.peakBytes = Math.max(this.peakBytes, this.usedBytes);
    return address;
  }

  free(address: number): void {
    const size = this.#sizes.get(address);
    if (size === undefined) throw new Error(`heap: ${address} is not allocated`);
    this.#sizes.delete(address);
    this.usedBytes -= size;
    let at = this.#free.findIndex(({ start }) => start > address);
    if (at < 0) at = this.#free.length;
    this.#free.splice(at, 0, { start: address, end: address + size });
    this.#merge(at);
    if (at > 0) this.#merge(at - 1);
    const last = this.#free.at(-1);
    if (last?.end === this.#top) {
      this.#top = last.start;
      this.#free.pop();
    }
  }

  #merge(at: number): void {
    const [left, right] = [this.#free[at], this.#free[at + 1]];
    if (right && left.end === right.start) {
      left.end = right.end;
      this.#free.splice(at + 1, 1);
    }
  }

  #extend(size: number, label: string): number {
    const address = this.#top;
    const top = address + size;
    if (top > this.limitBytes) throw new OutOfDeviceMemory(label, size, this.freeBytes);
    const missing = top - this.memory.buffer.byteLength;
    if (missing > 0) {
      try {
        this.memory.grow(Math.ceil(missing / WASM_PAGE));
      } catch {
        throw new OutOfDeviceMemory(label, size, this.memory.buffer.byteLength - address);
      }
    }
    this.#top = top;
    return address;
  }
}

function alignUp(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}
