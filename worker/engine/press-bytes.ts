/** What a press takes of device memory while it works on one layer, known before any compute: all that presses/compressor.ts borrows, at most. */
import { type CheckedPress, queriesOf } from '../../presses/check-press.ts';
import { OBSERVATION_WINDOW } from '../../presses/window-attention.ts';
import type { KvShape } from './kv-cache.ts';

/** How many of the last queries are kept of every layer: those of the widest window, the retained mass's among them. */
export function pressQueries({ stages, size }: CheckedPress): number {
  if (stages.length === 0) return 0;
  return Math.max(Math.min(OBSERVATION_WINDOW, size.tokens - 1), ...stages.map(({ press, context }) => queriesOf(press, context.tokens)));
}

/** Everything is held until the layer is done. The queries are not in it, nor what kernels keep for themselves. */
export function pressBytes({ stages, size }: CheckedPress, { layers, queryHeads: Hq, kvHeads: H, headDim: d }: KvShape): number {
  const last = stages.at(-1);
  if (!last) return 0;
  let bytes = 0;
  const take = (values: number, times = 1): void => {
    bytes += times * Math.ceil(values / 16) * 64; // 4 bytes each, in blocks of whole 64 bytes
  };
  for (const stage of stages) {
    const n = stage.context.tokens;
    const { scorer } = stage.press;
    take(H * n, 2); // scores, rank order
    if (scorer.part.queries(scorer.params) > 0) {
      take(Hq * n); // the window's attention
      take(H * n); // its mean over the group
    }
    if (stage !== last) take(Math.max(...stage.exact!) * H * d, 2); // keys and values, gathered for the next press
  }
  const N = size.tokens;
  const n = last.context.tokens;
  const { part, params } = last.layerBudget;
  const { scorer, headBudget } = last.press;
  take(Hq * N); // attention of the observation window,
  take(H * N); // and the mass that every key has of it
  const measured = part.signal === 'none' ? 0 : part.queries(params, scorer.part.queries(scorer.params));
  if (measured > 0) take(Hq * n, 2); // attention that the signal is counted on, its rank order
  if (stages.length > 1) {
    take(n, H); // order and
    take(N, H); // scores in the rows of the whole layer
  }
  take(2 * N); // one head's order and scores on their way into the ledger
  take(headBudget.part.ragged ? H * (n + 2) : 0); // the budget arithmetic's arguments: sorted scores,
  take(8 * layers); // or weights, caps and budgets
  return bytes;
}
