/** A press at work while one request is decoded: what it remembers of every layer, and when it is due. */
import type { CheckedDecoding } from '../../presses/check-decoding.ts';
import { DecodingCompressor } from '../../presses/decoding-compressor.ts';
import { TokenScores } from '../../presses/token-scores.ts';
import type { Backend } from '../backend/backend.ts';
import type { Forward, Recent } from './forward.ts';
import type { Job } from './job.ts';
import type { KvCache, KvSequence } from './kv-cache.ts';
import { RecentRows } from './recent-rows.ts';
import { seededRandom } from './sampler.ts';
import type { DecodingUsage } from './types.ts';

export interface EvictionParts {
  readonly backend: Backend;
  readonly forward: Forward;
  readonly cache: KvCache;
}

/** Device bytes that are held from admission to the end of the answer. */
export function recentBytes(decoding: CheckedDecoding | null, { cache: { shape }, forward }: Pick<EvictionParts, 'cache' | 'forward'>): number {
  if (decoding === null) return 0;
  const { layers, queryHeads, headDim } = shape;
  return RecentRows.bytes(layers, decoding.queries, queryHeads * headDim) + RecentRows.bytes(layers, decoding.hidden, forward.hiddenSize);
}

export class Eviction {
  /** What the forward pass keeps for it. */
  readonly recent: Recent;
  readonly recentBytes: number;
  /** Of tokens whose hidden states say what they are worth; null where the press reads none. */
  readonly scores: TokenScores | null;
  readonly #parts: EvictionParts;
  readonly #job: Job;
  readonly #checked: CheckedDecoding;
  readonly #sequence: KvSequence;
  readonly #compressor: DecodingCompressor;
  /** Tokens that were read when it last acted; the question's count as steps do. */
  #last: number;
  /** The same, counted one by one. */
  #acted: number;
  #acts = 0;

  /** `heldQueries`: the last ones of the context that the request has mounted. Throws OutOfDeviceMemory. */
  constructor(
    parts: EvictionParts,
    job: Job,
    checked: CheckedDecoding,
    sequence: KvSequence,
    seed: number | null,
    heldQueries: RecentRows | null = null,
  ) {
    const { backend, forward, cache } = parts;
    const { shape } = cache;
    this.#parts = parts;
    this.#job = job;
    this.#checked = checked;
    this.#sequence = sequence;
    this.recentBytes = recentBytes(checked, parts);
    const remembered = (size: number, floats: number, label: string): RecentRows | null =>
      size === 0 ? null : new RecentRows(backend, shape.layers, size, floats, label);
    const queries = remembered(checked.queries, shape.queryHeads * shape.headDim, 'last queries');
    let hidden: RecentRows | null = null;
    try {
      hidden = remembered(checked.hidden, forward.hiddenSize, 'last hidden states');
      if (heldQueries !== null) queries?.goOn(heldQueries);
    } catch (error) {
      queries?.close();
      hidden?.close();
      throw error;
    }
    this.recent = { queries, hidden };
    const layers = Array.from({ length: shape.layers }, (_, layer) => ({ shape: forward.attention(layer), model: forward.layerModel(layer) }));
    const common = { backend, checked, store: sequence, layers };
    this.scores = hidden && new TokenScores({ ...common, hidden });
    if (job.held !== null) this.scores?.goOn(job.held.tokens.length);
    this.#compressor = new DecodingCompressor({ ...common, queries, scores: this.scores, random: seededRandom(seed) });
    // kvpress reads the question in one call, which is one step, and compresses at once where that is long.
    const question = checked.press.compat ? job.tokens.length - job.covered : 0;
    this.#acted = job.tokens.length - question;
    this.#last = job.tokens.length - (question >= checked.target(job.tokens.length) ? checked.interval : Math.min(1, question));
  }

  /** How many tokens can be read before it must act. */
  room(tokens: number): number {
    return Math.min(this.#due(tokens), this.scores?.room(tokens) ?? Infinity);
  }

  /** How many tokens can be read before it must compress. */
  #due(tokens: number): number {
    return this.#checked.interval - (tokens - this.#last);
  }

  /** Acts, when `tokens` were read in all: compresses where it is time to, else scores what could not be remembered longer. A piece of work. */
  async act(tokens: number): Promise<void> {
    if (this.scores && this.scores.room(tokens) <= 0) await this.scores.score(tokens);
    if (this.#due(tokens) > 0) return;
    this.#acts++;
    await this.#compressor.compress(tokens, tokens - this.#acted);
    this.#acted = tokens;
    this.#last = tokens;
    const { pagesSteady } = this.#job.size;
    if (pagesSteady !== null) this.#sequence.shrinkReservation(Math.min(pagesSteady, this.#job.size.pagesEnd));
  }

  /** At the end of the answer. */
  get usage(): DecodingUsage {
    const { interval } = this.#checked;
    const why =
      this.#acts === 0 ? `it acts every ${interval} tokens, and fewer were read since the prompt` : 'the cache never held more than is to stay';
    const idle = this.#compressor.compressions === 0 ? [`nothing was removed while decoding: ${why}`] : [];
    const { layers, kvHeads } = this.#parts.cache.shape;
    return {
      compressions: this.#compressor.compressions,
      entries_per_layer: Array.from({ length: layers }, (_, layer) => this.#sequence.entriesOf(layer) / kvHeads),
      bytes_end: this.#sequence.heldBytes,
      notes: [...new Set([...this.#compressor.notes, ...(this.scores?.notes ?? []), ...idle])],
    };
  }

  close(): void {
    this.recent.queries?.close();
    this.recent.hidden?.close();
  }
}
