/** The one place where loading meets the kernels' layouts (worker/backend/layout). */
import type { WeightType } from '../../backend/backend.ts';
import { dequantizeGguf, type GgufType, ggufFormats } from '../../backend/layout/gguf-blocks.ts';
import { halfSplitRow, packRows, repackGguf } from '../../backend/layout/pack.ts';
import { weightBytes } from '../../backend/layout/records.ts';

export { weightBytes };

export interface FileType {
  /** Weights and bytes of one block. */
  readonly count: number;
  readonly bytes: number;
  /** The layout a matrix of this type becomes. */
  readonly layout: WeightType;
}

/** Types of files that we can read, by the name that the file gives them. Safetensors' F32, F16 and BF16 are GGUF's. */
export const fileTypes: ReadonlyMap<string, FileType> = new Map(Object.entries(ggufFormats));

export interface RowChunk {
  readonly type: WeightType;
  /** Rows of the whole matrix, and of the chunk. */
  readonly rows: number;
  readonly cols: number;
  readonly first: number;
  readonly count: number;
  /** Rows of one head, if the file holds them interleaved; else 0. The chunk then holds whole heads. */
  readonly interleavedHead: number;
}

/** Writes the chunk's rows, `source` holding just those, to `target`, which begins at row `first` (a multiple of 4). */
export function repackRows(target: Uint8Array, source: Uint8Array, sourceType: string, chunk: RowChunk): void {
  const { type, rows, cols, first, count, interleavedHead } = chunk;
  const from = sourceType as GgufType;
  const range = { first, count, base: first, rowMap: interleavedHead > 0 ? (row: number) => halfSplitRow(row, interleavedHead) : undefined };
  if (fileTypes.get(sourceType)?.layout === type) repackGguf(target, { type, rows, cols }, from, source, range);
  else packRows(target, { type, rows, cols }, dequantizeGguf(from, source, count * cols), range);
}
