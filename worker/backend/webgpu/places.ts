/** Where the bytes of a view lie: which GPU buffers, and where in them. */
import type { View } from '../backend.ts';
import type { GpuBlock } from './buffers.ts';

/** What is bound in one place of a bind group. */
export interface Place {
  readonly gpu: GPUBuffer;
  readonly key: string;
  readonly offset: number;
  readonly size: number;
  /** Index of the view's first element, of 4 bytes. */
  readonly element: number;
}

export const SPARE_BYTES = 256;

/** Where binding i has nothing to write: each has its own place, for two writable bindings must not overlap. */
export function spare({ segments: [{ gpu }] }: GpuBlock, i: number): Place {
  return { gpu, key: `spare${i}`, offset: i * SPARE_BYTES, size: SPARE_BYTES, element: 0 };
}

/** The whole piece of the buffer that the view begins in is bound, so that bind groups do not depend on offsets; the kernel adds `element`. */
export function place(view: View): Place {
  const block = view.buffer as GpuBlock;
  if (block.freed) throw new Error(`${block.label} is used after it was freed`);
  const i = segmentAt(block, view.offset);
  const { gpu, start, bytes } = block.segments[i];
  if ((view.offset - start) % 4 !== 0) throw new Error(`${block.label}: offset ${view.offset} is not a multiple of 4`);
  return { gpu, key: idOf(gpu), offset: 0, size: Math.ceil(bytes / 4) * 4, element: (view.offset - start) / 4 };
}

const ids = new WeakMap<GPUBuffer, string>();
let count = 0;
function idOf(buffer: GPUBuffer): string {
  let id = ids.get(buffer);
  if (id === undefined) ids.set(buffer, (id = String(count++)));
  return id;
}

export function segmentAt({ segments }: GpuBlock, offset: number): number {
  let i = segments.length - 1;
  while (i > 0 && segments[i].start > offset) i--;
  return i;
}

/** A range of bytes by the pieces that it lies in. `from` counts from the range's first byte. */
export function* pieces({ buffer, offset }: View, bytes: number): Generator<{ gpu: GPUBuffer; offset: number; from: number; size: number }> {
  const block = buffer as GpuBlock;
  if (block.freed) throw new Error(`${block.label} is used after it was freed`);
  for (let i = segmentAt(block, offset), from = 0; from < bytes; i++) {
    const { gpu, start, bytes: length } = block.segments[i];
    const at = offset + from - start;
    const size = Math.min(bytes - from, length - at);
    yield { gpu, offset: at, from, size };
    from += size;
  }
}
