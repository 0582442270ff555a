/** A running sequence, as a press that acts while decoding sees it. */
import type { RankOrder, View } from '../worker/backend/backend.ts';
import type { ScoredStore } from './token-scores.ts';

/** Lists (layer, KV head) of stored entries, in any order. */
export interface RunningStore extends ScoredStore {
  /** By how many positions entries of the prompt were moved together: what followed stands so many earlier, as RoPE has it. */
  readonly shift: number;
  /** Where tokens of these positions in the text stand, as RoPE has it. */
  standing(layer: number, head: number, positions: Uint32Array): Uint32Array;
  /** Where each entry stood in the text, in list order. */
  positions(layer: number, head: number): Uint32Array;
  /** The score of each entry, in list order. */
  scores(layer: number, head: number): Float32Array;
  /** Entries as rows: row i of k, v ([n, heads, d] f32) has entry entries[h][i] of head first + h. */
  read(layer: number, first: number, entries: readonly Uint32Array[], k: View, v: View): void;
  /** Writes every entry of some heads anew: entry i of head first + h is row order[h, i] of k, v ([n, heads, d] f32). */
  rewrite(layer: number, first: number, heads: number, order: RankOrder, k: View, v: View): void;
  /** Lets go of all but these entries [H] of the layer's lists; tells which of them now stands in each place. */
  retain(layer: number, kept: readonly Uint32Array[]): readonly Uint32Array[];
}

/** The last queries of every layer, after RoPE. */
export interface RecentQueries {
  readonly held: number;
  /** The last `count` of a layer, oldest first, to `out` [count, Hq, d]. */
  read(out: View, layer: number, count: number): void;
}
