/** What a model needs of linear memory, reckoned before any of it is taken, so that a limit that is too low is refused with one that works. */

import type { LedgerExports } from '../backend/kernel-exports.ts';
import { fixedBytes, prefillBytes } from './forward-bytes.ts';
import type { HiddenType } from './hidden-rows.ts';
import { entriesPerPageOf, type KvShape, kvCacheBytes, pageBytesOf } from './kv-cache.ts';
import type { ForwardShape } from './model-weights.ts';

const MiB = 2 ** 20;
const LEAST_PAGES_PER_LIST = 4;
const SHORT_REQUEST = 256; // tokens, of prompt and answer: what "works" means for a limit
const USUAL_READS = { queries: 64, hidden: false, change: false }; // what presses usually read

export interface MemoryModel {
  readonly shape: ForwardShape & KvShape;
  readonly weightBytes: number;
  readonly contextLength: number;
  readonly chunkTokens: number;
  readonly hiddenType: HiddenType;
  readonly sequences: number;
  /** Where nobody asks, a pool has no more. */
  readonly usualPoolBytes: number;
  /** The pool that was asked for; null = what is left. */
  readonly poolBytes: number | null;
  /** Tokens of a prompt that there must be room to read; null = half the context length, and a fifth of what is left then. */
  readonly longestPrompt: number | null;
  /** What a usual press over so many tokens, and kernels for themselves, take beside `prefillBytes`. */
  pressBytes(tokens: number): number;
  /** Where the module's static data ends, and what of the limit is for memory outside. */
  readonly baseBytes: number;
  readonly ledger: LedgerExports;
}

export interface MemoryNeeds {
  readonly leastPoolBytes: number;
  /** A pool for one request of the whole context length, or the usual one where that is smaller. */
  readonly wholePoolBytes: number;
  /** The KV pool of a memory with so many bytes free once weights and fixed buffers lie there. */
  poolBytes(freeBytes: number): number;
  /** What reading a prompt of so many tokens takes, with a press as they usually are. */
  readingBytes(tokens: number): number;
  /** Tokens of the longest prompt that can be read, with such a press, in so many bytes. */
  longestPrompt(freeBytes: number): number;
  fits(limitBytes: number): boolean;
  /** The lowest limit, in whole MiB, that a short request fits into too. */
  readonly leastBytes: number;
  /** The lowest limit, in whole MiB, that leaves `wholePoolBytes` for the pool. */
  readonly roomyBytes: number;
}

export function memoryNeeds(model: MemoryModel): MemoryNeeds {
  const { usualPoolBytes, shape, weightBytes, contextLength, chunkTokens, sequences, baseBytes, ledger } = model;
  const fixed = baseBytes + weightBytes + fixedBytes(shape, chunkTokens);
  const page = pageBytesOf(shape.headDim);
  const perPage = entriesPerPageOf('f32', shape.headDim);
  const lists = shape.layers * shape.kvHeads;
  const leastPoolBytes = LEAST_PAGES_PER_LIST * lists * page;
  const poolOf = (tokens: number): number => Math.min(usualPoolBytes, lists * Math.ceil(Math.min(tokens, contextLength) / perPage) * page);
  const [shortPool, wholePool] = [poolOf(SHORT_REQUEST), poolOf(contextLength)];
  // What is left when a prompt of half the context length is being read.
  const half = prefillBytes(shape, Math.ceil(contextLength / 2), USUAL_READS, model);
  const readingBytes = (tokens: number): number => prefillBytes(shape, tokens, USUAL_READS, model) + model.pressBytes(tokens);
  const cacheBytes = (pool: number): number => kvCacheBytes(ledger, shape, { poolBytes: pool, contextLength, sequences });
  /** The most whole pages that fit with their ledger. */
  const poolWithin = (bytes: number): number => page * most(Math.floor(usualPoolBytes / page), (pages) => cacheBytes(pages * page) <= bytes);
  const poolBytes = (free: number): number => {
    if (model.poolBytes !== null) return model.poolBytes;
    if (model.longestPrompt === null) return Math.min(usualPoolBytes, Math.floor((free - half) * 0.8));
    return poolWithin(free - readingBytes(model.longestPrompt));
  };
  const loaded = (pool: number): number => fixed + cacheBytes(pool);
  const fits = (limit: number): boolean => {
    const pool = poolBytes(limit - fixed);
    return pool >= leastPoolBytes && loaded(pool) <= limit;
  };
  const product = 8 * chunkTokens * Math.max(shape.hiddenSize, shape.intermediateSize, shape.queryHeads * shape.headDim); // more than any kernel keeps for itself
  const works = (limit: number): boolean => {
    const pool = poolBytes(limit - fixed);
    const reading = prefillBytes(shape, Math.min(SHORT_REQUEST, contextLength), USUAL_READS, model) + product;
    return fits(limit) && (model.poolBytes !== null || pool >= shortPool) && loaded(pool) + reading <= limit;
  };
  const roomy = (limit: number): boolean => works(limit) && (model.poolBytes !== null || poolBytes(limit - fixed) >= wholePool);
  return {
    leastPoolBytes,
    wholePoolBytes: wholePool,
    poolBytes,
    readingBytes,
    longestPrompt: (free) => most(contextLength, (tokens) => readingBytes(tokens) <= free),
    fits,
    leastBytes: lowest(works),
    roomyBytes: lowest(roomy),
  };
}

/** The largest count up to `limit` at which `holds` holds, as it then does at any below; 0 where there is none. */
function most(limit: number, holds: (count: number) => boolean): number {
  let [least, beyond] = [0, limit + 1];
  while (beyond - least > 1) {
    const middle = Math.floor((least + beyond) / 2);
    if (holds(middle)) least = middle;
    else beyond = middle;
  }
  return least;
}

/** The lowest limit, in whole MiB, at which `holds` holds, as it then does at any above; more than can be addressed where there is none. */
function lowest(holds: (limit: number) => boolean): number {
  let most = 1;
  while (most < 2 ** 20 && !holds(most * MiB)) most *= 2;
  let least = Math.floor(most / 2);
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2);
    if (holds(middle * MiB)) most = middle;
    else least = middle;
  }
  return most * MiB;
}
