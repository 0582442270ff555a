/** A press at work while one request is decoded: what it remembers of every layer, and when it is due. */
import type { CheckedDecoding } from '../../presses/check-decoding.ts';
import { DecodingCompressor } from '../../presses/decoding-compressor.ts';
import type { Backend } from '../backend/backend.ts';
import type { Forward, Recent } from './forward.ts';
import type { Job } from './job.ts';
import type { KvCache, KvSequence, KvShape } from './kv-cache.ts';
import { RecentRows } from './recent-rows.ts';
import { seededRandom } from './sampler.ts';
import type { DecodingUsage } from './types.ts';

export interface EvictionParts {
  readonly backend: Backend;
  readonly forward: Forward;
  readonly cache: KvCache;
}

/** Device bytes that are held from admission to the end of the answer. */
export function recentBytes(decoding: CheckedDecoding | null, { layers, queryHeads, headDim }: KvShape): number {
  return decoding === null ? 0 : RecentRows.bytes(layers, decoding.queries, queryHeads * headDim);
}

export class Eviction {
  /** What the forward pass keeps for it. */
  readonly recent: Recent;
  readonly recentBytes: number;
  readonly #parts: EvictionParts;
  readonly #job: Job;
  readonly #checked: CheckedDecoding;
  readonly #sequence: KvSequence;
  readonly #random: () => number;
  #compressor: DecodingCompressor | null = null;
  /** Tokens that were read when it last acted; the question's count as steps do. */
  #last: number;
  /** The same, counted one by one. */
  #acted: number;

  /** Throws OutOfDeviceMemory. */
  constructor(parts: EvictionParts, job: Job, checked: CheckedDecoding, sequence: KvSequence, seed: number | null) {
    const { shape } = parts.cache;
    const { queries } = checked;
    this.#parts = parts;
    this.#random = seededRandom(seed);
    this.#job = job;
    this.#checked = checked;
    this.#sequence = sequence;
    this.recentBytes = recentBytes(checked, shape);
    const rows = queries === 0 ? null : new RecentRows(parts.backend, shape.layers, queries, shape.queryHeads * shape.headDim, 'last queries');
    this.recent = { queries: rows, hidden: null };
    // kvpress reads the question in one call, which is one step, and compresses at once where that is long.
    const question = checked.press.compat ? job.tokens.length - job.covered : 0;
    this.#acted = job.tokens.length - question;
    this.#last = job.tokens.length - (question >= checked.target(job.tokens.length) ? checked.interval : Math.min(1, question));
  }

  /** How many tokens can be read before it must act. */
  room(tokens: number): number {
    return this.#checked.interval - (tokens - this.#last);
  }

  /** Acts, when `tokens` were read in all. A piece of work. */
  async compress(tokens: number): Promise<void> {
    const { backend, forward, cache } = this.#parts;
    const layers = Array.from({ length: cache.shape.layers }, (_, layer) => ({ shape: forward.attention(layer), model: forward.layerModel(layer) }));
    this.#compressor ??= new DecodingCompressor({
      backend,
      checked: this.#checked,
      store: this.#sequence,
      queries: this.recent.queries,
      layers,
      random: this.#random,
    });
    await this.#compressor.compress(tokens, tokens - this.#acted);
    this.#acted = tokens;
    this.#last = tokens;
    const { pagesSteady } = this.#job.size;
    if (pagesSteady !== null) this.#sequence.shrinkReservation(Math.min(pagesSteady, this.#job.size.pagesEnd));
  }

  /** At the end of the answer. */
  get usage(): DecodingUsage {
    const { layers, kvHeads } = this.#parts.cache.shape;
    return {
      compressions: this.#compressor?.compressions ?? 0,
      entries_per_layer: Array.from({ length: layers }, (_, layer) => this.#sequence.entriesOf(layer) / kvHeads),
      bytes_end: this.#sequence.heldBytes,
      notes: [...(this.#compressor?.notes ?? this.#checked.notes)],
    };
  }

  close(): void {
    this.recent.queries?.close();
  }
}
