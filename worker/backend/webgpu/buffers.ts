/**
 * Device memory: GPU buffers, kept for the next one of their size when they are freed. Sizes are rounded up, to at most 1/8 more, so that they
 * meet again. WebGPU tells nobody how much memory there is: the limit is the caller's.
 */
import { type CutBefore, type DeviceBuffer, OutOfDeviceMemory } from '../backend.ts';

/** A piece of a buffer: a GPUBuffer of its own that one binding can hold. Most buffers are one piece. */
export interface Segment {
  readonly gpu: GPUBuffer;
  readonly start: number; // offset within the DeviceBuffer
  readonly bytes: number;
}

export class GpuBlock implements DeviceBuffer {
  readonly buffer = this;
  readonly offset = 0;
  readonly bytes: number;
  readonly label: string;
  readonly segments: readonly Segment[];
  freed = false;

  constructor(bytes: number, label: string, segments: readonly Segment[]) {
    this.bytes = bytes;
    this.label = label;
    this.segments = segments;
  }
}

const SMALLEST = 256;
const MOST_SMALL = 32; // blocks of a request that are so small that rounding adds more than 1/8

export class Buffers {
  readonly limitBytes: number;
  /** The most that one buffer holds and one binding sees. */
  readonly mostBytes: number;
  usedBytes = 0;
  peakBytes = 0;
  readonly #device: GPUDevice;
  /** Blocks that nobody uses, by size. */
  readonly #idle = new Map<number, GpuBlock[]>();
  readonly #live = new Set<GpuBlock>();
  #idleBytes = 0;
  /** Told before buffers are destroyed, so that nothing that was recorded still wants them. */
  readonly #beforeDestroy: () => void;

  constructor(device: GPUDevice, limitBytes: number, beforeDestroy: () => void, mostBytes = Infinity) {
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
    this.mostBytes = Math.min(mostBytes, maxBufferSize, maxStorageBufferBindingSize);
    this.#device = device;
    this.limitBytes = limitBytes;
    this.#beforeDestroy = beforeDestroy;
  }

  /** What can be asked for in several blocks, however their sizes are rounded. */
  get freeBytes(): number {
    return Math.max(0, Math.floor(((this.limitBytes - this.usedBytes) * 8) / 9) - MOST_SMALL * SMALLEST);
  }
  /** Labels of what is allocated now. */
  get live(): string[] {
    return [...this.#live].map(({ label }) => label);
  }

  /** Bytes of every GPU buffer that is in use. */
  get sizes(): number[] {
    return [...this.#live].flatMap(({ segments }) => segments.map(({ bytes }) => bytes));
  }

  /** A block with `cutBefore` is of its own size, cut where one binding cannot hold it all, and not kept when it is freed. */
  alloc(bytes: number, label: string, cutBefore?: CutBefore): GpuBlock {
    if (cutBefore) return this.#enter(Math.ceil(bytes / 4) * 4, label, (size) => this.#create(size, label, cutBefore), bytes);
    const size = sizeClass(bytes);
    return this.#enter(size, label, () => this.#again(size) ?? this.#create(size, label, () => null), bytes);
  }

  /** An idle block's buffers. */
  #again(size: number): readonly Segment[] | undefined {
    const block = this.#idle.get(size)?.pop();
    if (block) this.#idleBytes -= size;
    return block?.segments;
  }

  #enter(size: number, label: string, make: (size: number) => readonly Segment[], bytes: number): GpuBlock {
    if (this.usedBytes + size > this.limitBytes) throw new OutOfDeviceMemory(label, size, this.freeBytes);
    if (this.usedBytes + this.#idleBytes + size > this.limitBytes && !this.#idle.get(size)?.length) this.trim();
    const block = new GpuBlock(bytes, label, make(size));
    this.#live.add(block);
    this.usedBytes += size;
    this.peakBytes = Math.max(this.peakBytes, this.usedBytes);
    return block;
  }

  free(block: GpuBlock): void {
    if (!this.#live.delete(block)) throw new Error(`${block.label} was freed twice`);
    block.freed = true;
    const size = block.segments.reduce((sum, { bytes }) => sum + bytes, 0);
    this.usedBytes -= size;
    if (size !== sizeClass(block.bytes) || block.segments.length > 1) {
      this.#destroy([block]);
      return;
    }
    this.#idle.set(size, [...(this.#idle.get(size) ?? []), block]);
    this.#idleBytes += size;
  }

  /** Destroys what nobody uses. */
  trim(): void {
    if (this.#idleBytes === 0) return;
    this.#destroy([...this.#idle.values()].flat());
    this.#idle.clear();
    this.#idleBytes = 0;
  }

  /** Destroys everything. */
  close(): void {
    this.#destroy([...this.#live, ...[...this.#idle.values()].flat()]);
    this.#live.clear();
    this.#idle.clear();
    this.usedBytes = this.#idleBytes = 0;
  }

  #destroy(blocks: readonly GpuBlock[]): void {
    this.#beforeDestroy();
    for (const { segments } of blocks) for (const { gpu } of segments) gpu.destroy();
  }

  #create(size: number, label: string, cutBefore: CutBefore): Segment[] {
    const most = this.mostBytes;
    const segments: Segment[] = [];
    for (let start = 0; start < size; ) {
      const end = size - start <= most ? size : cutBefore(start, start + most);
      if (end === null) {
        for (const { gpu } of segments) gpu.destroy();
        throw new OutOfDeviceMemory(`${label} (this device binds ${most} bytes at most)`, size, most);
      }
      segments.push({ gpu: this.#buffer(end - start, label), start, bytes: end - start });
      start = end;
    }
    return segments;
  }

  #buffer(bytes: number, label: string): GPUBuffer {
    return this.#device.createBuffer({ label, size: bytes, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST });
  }
}

function sizeClass(bytes: number): number {
  if (bytes <= SMALLEST) return SMALLEST;
  const step = Math.max(SMALLEST, 2 ** (Math.floor(Math.log2(bytes - 1)) - 3)); // 8 steps between powers of two
  return Math.ceil(bytes / step) * step;
}
