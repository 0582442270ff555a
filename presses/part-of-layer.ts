/** A layer of fewer rows: what a selection hands to the scorer instead of the whole prompt. */
import { at, type DeviceBuffer } from '../worker/backend/backend.ts';
import type { ScoreContext } from './contract.ts';

/** Rows first .. end - 1, with those of the queries at hand that belong to them. */
export function partOf(context: ScoreContext, first: number, end: number): ScoreContext {
  const { n, k, v, q, window, hidden, shape, model, start, positions } = context;
  const entry = shape.kvHeads * shape.headDim * 4;
  const firstQuery = n - window;
  const from = Math.max(first, firstQuery);
  return {
    ...context,
    n: end - first,
    start: start + first,
    end: end === n ? context.end : positions?.reduce((most, list) => Math.max(most, list[start + end - 1] + 1), 0),
    k: at(k, first * entry),
    v: at(v, first * entry),
    q: at(q, (from - firstQuery) * shape.queryHeads * shape.headDim * 4),
    window: Math.max(0, end - from),
    hidden: hidden && at(hidden, first * model.hiddenSize * 4),
  };
}

/** Scratch for the same work again and again: the i-th block of a round serves in the next one, where it is large enough. */
export class ReusedScratch {
  readonly #scratch: ScoreContext['scratch'];
  readonly #blocks: DeviceBuffer[] = [];
  #next = 0;

  constructor({ scratch }: ScoreContext) {
    this.#scratch = scratch;
  }

  /** The next round: what the last one borrowed is lent again. */
  again(): void {
    this.#next = 0;
  }

  readonly lend: ScoreContext['scratch'] = (bytes, label) => {
    const block = this.#blocks[this.#next];
    if (block === undefined || block.bytes < bytes) this.#blocks[this.#next] = this.#scratch(bytes, label);
    return this.#blocks[this.#next++];
  };
}
