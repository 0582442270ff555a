/** LagKV: tokens that spread wide over the range of the tokens that follow them stay.          arXiv 2504.04704
 *      partitions of lag_size tokens begin after the sinks; lo, hi = least and most of each channel in the next partition
 *      a^Y = softmax over the partition of std over channels of (Y - lo) / (hi - lo), Y = K, V;   s = rank of (a^K + a^V) / 2 / lag_size
 *  needs     two partitions; in a shorter prompt the most recent tokens stay
 *  The sinks, the last whole partition and what follows it are protected. Ranks are the same in every partition: ties go to the lower position.
 *  A channel that is constant in the next partition counts as 0, under compat too: kvpress divides 0 by 0 and leaves the order of the NaN to a sort. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { trueOrFalse, wholeNumber } from '../params.ts';

const params = z.strictObject({
  n_sink: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept'),
  lag_size: wholeNumber(1, 4096, 128, 'tokens of a partition; at least as many of the last tokens are always kept'),
  cross_scoring: trueOrFalse(false, 'compares scores between partitions, where otherwise each keeps as many as the others'),
});

export const lagkv: Scorer<typeof params> = {
  name: 'lagkv',
  summary: 'keeps the tokens that spread wide over the range of those that follow',
  paper: 'arXiv 2504.04704',
  formula: 's[t] = rank in its partition of the mean of softmax(std((K[t] - lo)/(hi - lo))) and the same of V; lo, hi = range of the next partition',
  needs: 'keys, values',
  params,
  comparable: true, // ranks, or shares of a partition
  massMap: null, // the same ranks in every layer
  protectedBy: null, // n_sink, lag_size and the prompt's length together
  queries: () => 0,
  protect({ n_sink, lag_size }, n) {
    if (n < n_sink + 2 * lag_size) return { first: n_sink, last: 0 };
    const rest = n === Infinity ? lag_size - 1 : (n - n_sink) % lag_size; // of prompts of any length, the most
    return { first: n_sink, last: lag_size + rest };
  },
  score({ backend, scratch, k, v, n, shape: { kvHeads, headDim } }, { n_sink, lag_size, cross_scoring }) {
    const scores = scratch(kvHeads * n * 4, 'lagkv scores'); // [H, n]
    if (n < n_sink + 2 * lag_size) {
      const recency = Float32Array.from({ length: n }, (_, t) => (t < n_sink ? 1 : (t - n_sink) / (n - n_sink)));
      for (let h = 0; h < kvHeads; h++) backend.write(at(scores, h * n * 4), recency);
      return scores;
    }
    backend.lagScore(scores, k, v, n, n_sink, lag_size, kvHeads, headDim);
    if (cross_scoring) return scores;
    const ranks = scratch(kvHeads * n * 4, 'lagkv ranks'); // [H, n]
    backend.segmentRank(ranks, scores, kvHeads, n, n_sink, lag_size, Math.floor((n - n_sink) / lag_size) - 1);
    return ranks;
  },
};
