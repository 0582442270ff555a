/** Top-k: the protected tokens, then the best scores of each head; equal scores go to the lower position.
 *      kept[h] = protected + the b[l,h] - P largest s[h,t] */
import * as z from 'zod';
import type { View } from '../../worker/backend/backend.ts';
import type { RankContext, Ranked, Selection } from '../contract.ts';
import { wholeNumber } from '../params.ts';

const params = z.strictObject({
  protect_first: wholeNumber(0, 4096, 0, 'how many of the first tokens are kept whatever their score, beside those that the scorer protects'),
  protect_last: wholeNumber(0, 4096, 0, 'how many of the last tokens are kept whatever their score, beside those that the scorer protects'),
});

export const topK: Selection<typeof params> = {
  name: 'top_k',
  summary: 'the protected tokens, then the best scores of each head; equal scores go to the lower position',
  paper: null,
  formula: 'kept[h] = protected + the b[l,h] - P largest s[h,t]',
  needs: 'scores',
  params,
  whileDecoding: true,
  protect: ({ protect_first, protect_last }) => ({ first: protect_first, last: protect_last }),
  rank: (context) => rankByScore(context, context.score(context)),
};

/** The rank order of given scores: protected tokens in ascending position, then the best of the others. */
export function rankByScore({ backend, scratch, n, shape, keep, count }: RankContext, scores: View): Ranked {
  const order = scratch(shape.kvHeads * count * 4, 'rank order'); // [H, count]
  backend.topK(order, scores, shape.kvHeads, n, count, keep);
  return { scores, order };
}
