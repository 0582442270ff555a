/** What a model needs of linear memory, reckoned before any of it is taken, so that a limit that is too low is refused with one that works. */

import type { LedgerExports } from '../backend/kernel-exports.ts';
import { fixedBytes, prefillBytes } from './forward-bytes.ts';
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
  readonly sequences: number;
  /** Where nobody asks, a pool has no more. */
  readonly usualPoolBytes: number;
  /** The pool that was asked for; null = what is left. */
  readonly poolBytes: number | null;
  /** Where the module's static data ends. */
  readonly baseBytes: number;
  readonly ledger: LedgerExports;
}

export interface MemoryNeeds {
  readonly leastPoolBytes: number;
  /** A pool for one request of the whole context length, or the usual one where that is smaller. */
  readonly wholePoolBytes: number;
  /** The KV pool of a memory with so many bytes free once weights and fixed buffers lie there. */
  poolBytes(freeBytes: number): number;
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
  const half = prefillBytes(shape, Math.ceil(contextLength / 2), USUAL_READS);
  const poolBytes = (free: number): number => model.poolBytes ?? Math.min(usualPoolBytes, Math.floor((free - half) * 0.8));
  const loaded = (pool: number): number => fixed + kvCacheBytes(ledger, shape, { poolBytes: pool, contextLength, sequences });
  const fits = (limit: number): boolean => {
    const pool = poolBytes(limit - fixed);
    return pool >= leastPoolBytes && loaded(pool) <= limit;
  };
  const product = 8 * chunkTokens * Math.max(shape.hiddenSize, shape.intermediateSize, shape.queryHeads * shape.headDim); // more than any kernel keeps for itself
  const works = (limit: number): boolean => {
    const pool = poolBytes(limit - fixed);
    const reading = prefillBytes(shape, Math.min(SHORT_REQUEST, contextLength), USUAL_READS) + product;
    return fits(limit) && (model.poolBytes !== null || pool >= shortPool) && loaded(pool) + reading <= limit;
  };
  const roomy = (limit: number): boolean => works(limit) && (model.poolBytes !== null || poolBytes(limit - fixed) >= wholePool);
  return { leastPoolBytes, wholePoolBytes: wholePool, poolBytes, fits, leastBytes: lowest(works), roomyBytes: lowest(roomy) };
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
