/** A pool of pages with random entries in it, by its bytes; and where the rows of an entry lie. */
import { type EntryType, entryTypes } from '../../worker/backend/backend.ts';
import { entriesPerPageOf } from '../../worker/engine/kv-cache.ts';
import { fromHalf, toHalf } from './half.ts';
import type { Random } from './random.ts';

export interface EntryPool {
  readonly bytes: Uint8Array;
  readonly type: EntryType;
  /** The type's number in the kernels. */
  readonly entryType: number;
  readonly d: number;
  readonly E: number;
  readonly pageBytes: number;
  readonly places: number;
}

export function randomPool(random: Random, type: EntryType, d: number, pages: number, E = entriesPerPageOf(type, d)): EntryPool {
  const scales = (2 * E * d + 3) & ~3;
  const pageBytes = { f32: 2 * E * d * 4, f16: 2 * E * d * 2, int8: scales + 2 * E * 4 }[type];
  const bytes = new Uint8Array(pages * pageBytes).map(() => random.int(0, 255));
  const view = new DataView(bytes.buffer);
  const pool = { bytes, type, entryType: entryTypes.indexOf(type), d, E, pageBytes, places: pages * E };
  for (let place = 0; place < pool.places; place++) {
    for (const row of rowsOf(pool, place)) {
      const numbers = random.normals(d, 10 ** random.int(-3, 3));
      if (type === 'f32') numbers.forEach((x, c) => void view.setFloat32(row.at + c * 4, x, true));
      if (type === 'f16') numbers.forEach((x, c) => void view.setUint16(row.at + c * 2, c === 0 && place % 7 === 0 ? 0x7e00 : toHalf(x), true));
      if (row.scaleAt !== null) view.setFloat32(row.scaleAt, Math.abs(numbers[0]) / 127, true);
    }
  }
  return pool;
}

/** Key and value of the entry at a place. */
export function rowsOf({ type, d, E, pageBytes }: EntryPool, place: number): { at: number; bytes: number; scaleAt: number | null }[] {
  const start = Math.floor(place / E) * pageBytes;
  const bytes = d * { f32: 4, f16: 2, int8: 1 }[type];
  const scales = (2 * E * d + 3) & ~3;
  return [place % E, E + (place % E)].map((row) => ({ at: start + row * bytes, bytes, scaleAt: type === 'int8' ? start + scales + row * 4 : null }));
}

/** Key and value as numbers. */
export function valuesOf(pool: EntryPool, place: number): Float32Array[] {
  const view = new DataView(pool.bytes.buffer, pool.bytes.byteOffset);
  return rowsOf(pool, place).map(({ at, scaleAt }) =>
    Float32Array.from({ length: pool.d }, (_, c) => {
      if (pool.type === 'f32') return view.getFloat32(at + c * 4, true);
      if (pool.type === 'f16') return fromHalf(view.getUint16(at + c * 2, true));
      return view.getInt8(at + c) * view.getFloat32(scaleAt!, true);
    }),
  );
}

/** Pairs [from, to]: every place is in at most one of them. */
export function randomMoves(random: Random, { places }: EntryPool, count: number): Uint32Array {
  const shuffled = Array.from({ length: places }, (_, i) => i);
  for (let i = places - 1; i > 0; i--) {
    const j = random.int(0, i);
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  return Uint32Array.from(shuffled.slice(0, 2 * Math.min(count, Math.floor(places / 2))));
}

/** The pool's bytes after the moves. */
export function moved(pool: EntryPool, moves: Uint32Array): Uint8Array {
  const bytes = pool.bytes.slice();
  for (let i = 0; i < moves.length; i += 2) {
    const targets = rowsOf(pool, moves[i + 1]);
    for (const [which, from] of rowsOf(pool, moves[i]).entries()) {
      const to = targets[which];
      bytes.set(pool.bytes.subarray(from.at, from.at + from.bytes), to.at);
      if (from.scaleAt !== null) bytes.set(pool.bytes.subarray(from.scaleAt, from.scaleAt + 4), to.scaleAt!);
    }
  }
  return bytes;
}
