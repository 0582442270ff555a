/** ZigZag: layers whose attention is spread wide get more room.          arXiv 2412.09036
 *      B_l = B_bound + (B_avg - B_bound) L u_l / U
 *      u_l = sum over heads of MBA,  U = sum over layers of u_l;   LMBA_l = u_l / heads is the mean, so u_l / U = LMBA_l / sum(LMBA)
 *      MBA = the fewest evictable tokens that carry `threshold` of the head's evictable mass
 *  in tokens T = L B_avg in all, b = B_bound;   R = T - bL = L (B_avg - B_bound) is dealt:  B_l = b + R u_l / U
 *  needs     scores whose sizes mean something (or `lmba_from` "attention"), full rank orders
 *  conserves sum(B_l) = T, in integers: math.allocate water-fills the caps and rounds by largest remainder
 *  cascades  a new layer only raises U, so the earlier ones' limits only fall: ceilings until the last layer, exact budgets there
 *  The method's first implementation measured LMBA on scores padded with a huge value for the protected window, which gave 58 or 59 in every
 *  layer of every text. Protected tokens are never measured here. */
import * as z from 'zod';
import type { BudgetContext, MeasuredBudget } from '../contract.ts';
import { fraction, oneOf } from '../params.ts';
import { sum } from '../sum.ts';
import { OBSERVATION_WINDOW, windowAttention } from '../window-attention.ts';
import { boundsAbove } from './proportional.ts';

const params = z.strictObject({
  threshold: fraction(0.9, 'p: the share of the mass that a layer must keep', { above0: true }),
  bound_ratio: fraction(0.2, 'beta: every layer keeps at least this fraction of the average budget; 1 = uniform'),
  lmba_from: oneOf(
    ['scores', 'attention'],
    'scores',
    "what is counted: the scorer's scores per KV head, or the un-pooled window attention per query head",
  ),
});

export const zigzag: MeasuredBudget<typeof params> = {
  name: 'zigzag',
  summary: 'layers whose attention is spread wide keep more',
  paper: 'arXiv 2412.09036',
  formula: 'b[l] = B_bound + (B_avg - B_bound) L LMBA[l]/sum(LMBA)',
  needs: 'LMBA of each layer: how many evictable tokens hold threshold of the mass, mean over the heads',
  params,
  signal: 'measured',
  ragged: true,
  queries: ({ lmba_from }, scorerQueries) => (lmba_from === 'attention' ? scorerQueries || OBSERVATION_WINDOW : 0),
  refuses({ scorer }, { lmba_from }) {
    if (scorer.part.massMap !== null || lmba_from === 'attention') return null;
    return `layer_budget "zigzag" measures how widely the scores spread, and those of scorer "${scorer.part.name}" spread alike in every layer; use a scorer that looks at the tokens, such as snapkv, or "lmba_from": "attention"`;
  },
  async measure(context, { threshold, lmba_from }) {
    const { backend, n, shape, keep } = context;
    if (lmba_from === 'scores') return backend.massCount(context.scores, context.order, n, shape.kvHeads, keep, threshold, context.massMap!);
    const Hq = shape.queryHeads;
    const attention = windowAttention(context, Math.min(context.scorerQueries || OBSERVATION_WINDOW, n - 1)); // [Hq, n]
    const order = context.scratch(Hq * n * 4, 'attention order'); // [Hq, n]
    backend.topK(order, attention, Hq, n, n, keep);
    return backend.massCount(attention, order, n, Hq, keep, threshold, 'identity');
  },
  lmba: (mba) => sum(mba) / mba.length,
  limits(signals, context, { bound_ratio }) {
    const { layers, caps, even, math } = context;
    const u = signals.map(sum); // the sum over heads of MBA
    return math.allocate(u, sum(even), boundTokens(context, bound_ratio), caps.slice(0, u.length), u.length < layers);
  },
  bounds: (context, { bound_ratio }) => boundsAbove(boundTokens(context, bound_ratio), context),
};

/** B_bound in whole tokens: every layer holds its protected tokens and at least one. keptCount, so that 0.29 of 100 is 29 and not 28.99... */
function boundTokens({ averageBudget, protectedTokens, caps, math }: BudgetContext, boundRatio: number): number {
  const bound = math.keptCount(averageBudget, 1 - boundRatio, false);
  return Math.min(averageBudget, Math.max(bound, protectedTokens, 1), ...caps);
}
