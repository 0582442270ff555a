/** read-entries and move-entries on the device: by place, so that lists and page tables stay with the host. */
import { at, entryTypes, type Pool, type View } from '../backend.ts';
import type { Gpu } from './gpu.ts';
import { fold } from './recorder.ts';

/** Even; so many numbers go up with one dispatch. */
const PLACES_AT_ONCE = 1 << 16;

export function readEntries(gpu: Gpu, k: View, v: View, pool: Pool, places: Uint32Array, headDim: number): void {
  const vecs = headDim / 4;
  for (let start = 0; start < places.length; start += PLACES_AT_ONCE) {
    const some = places.subarray(start, start + PLACES_AT_ONCE);
    const [x, y] = fold(Math.ceil((some.length * vecs) / 64));
    const skipped = start * headDim * 4;
    gpu.recorder.dispatch('read-entries', {
      views: { pool: pool.pool, places: some, k: at(k, skipped), v: at(v, skipped) },
      dims: { ...pageDims(pool), count: some.length, vecs, entryType: entryTypes.indexOf(pool.entryType) },
      grid: [x, y, 2],
    });
  }
}

export function moveEntries(gpu: Gpu, pool: Pool, moves: Uint32Array, headDim: number): void {
  const rowWords = headDim / { f32: 1, f16: 2, int8: 4 }[pool.entryType];
  const scaleAt = pool.entryType === 'int8' ? 2 * pool.entriesPerPage * rowWords : 0;
  for (let start = 0; start < moves.length; start += PLACES_AT_ONCE) {
    const some = moves.subarray(start, start + PLACES_AT_ONCE);
    const count = some.length / 2;
    const [x, y] = fold(Math.ceil((count * (rowWords + Number(scaleAt > 0))) / 64));
    gpu.recorder.dispatch('move-entries', {
      views: { moves: some, pool: pool.pool },
      dims: { ...pageDims(pool), count, rowWords, scaleAt },
      grid: [x, y, 2],
    });
  }
}

function pageDims({ pageBytes, entriesPerPage }: Pool): { pageWords: number; entriesPerPage: number } {
  return { pageWords: pageBytes / 4, entriesPerPage };
}
