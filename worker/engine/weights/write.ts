/** Streams a plan's weights into the arena, in arena order, a chunk of rows at a time. */

import type { PlannedTensor, WeightPlan } from './plan.ts';
import { repackRows, weightBytes } from './repack.ts';
import { readTensor } from './source.ts';

/** Takes bytes at ascending, gapless offsets. It must be done with `bytes` when it returns (or resolves): the buffer is used again. */
export interface WeightSink {
  write(offset: number, bytes: Uint8Array): void | Promise<void>;
}

export interface LoadProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** The tensor or shard that was just finished. */
  readonly item: string;
}

/** Bytes of a file that are in memory at a time; a single group of rows may take more. */
const chunkBytes = 1 << 20;

export async function writeWeights(plan: WeightPlan, sink: WeightSink, onProgress?: (progress: LoadProgress) => void): Promise<void> {
  let reached = 0;
  const pad = async (until: number) => {
    if (until > reached) await sink.write(reached, new Uint8Array(until - reached));
    reached = until;
  };
  for (const tensor of plan.tensors) {
    await pad(tensor.offset);
    await writeTensor(tensor, sink);
    reached = tensor.offset + tensor.bytes;
    onProgress?.({ doneBytes: reached, totalBytes: plan.bytes, item: tensor.name });
  }
  await pad(plan.bytes);
}

async function writeTensor(tensor: PlannedTensor, sink: WeightSink): Promise<void> {
  const { source, rows, cols, type, interleavedHead } = tensor;
  const rowBytes = source.bytes / rows;
  // Quantised rows are packed in fours, interleaved heads must be whole: a chunk is a multiple of both.
  const step = interleavedHead > 0 && interleavedHead % 4 !== 0 ? interleavedHead * 2 : interleavedHead || 4;
  const chunkRows = Math.max(step, Math.floor(chunkBytes / rowBytes / step) * step);
  const packed = new Uint8Array(weightBytes(type, Math.min(chunkRows, rows), cols));
  let offset = tensor.offset;
  for (let row = 0; row < rows; row += chunkRows) {
    const n = Math.min(chunkRows, rows - row);
    const bytes = await readTensor(source, row * rowBytes, n * rowBytes);
    const out = packed.subarray(0, weightBytes(type, n, cols));
    repackRows(out, bytes, source.type, { type, rows, cols, first: row, count: n, interleavedHead });
    await sink.write(offset, out);
    offset += out.length;
  }
}
