/** DynamicKV: a layer keeps as many tokens as it has among the best of all layers.          arXiv 2412.14838
 *      b_l = P + N_l / H,   N_l = how many of the K = H (T - L P) best evictable scores of the model lie in layer l, at most H max_ratio (B_avg - P) of any one
 *  needs     scores that can be compared between layers
 *  conserves sum(b_l) = T, in whole tokens: largest remainder
 *  cascades  exactly: a new layer only raises the cut, and scores equal to it count in proportion. The paper looks again every 4 layers, by integer divisions that drift, with the rest for the last
 *            layer; here every layer is looked at when it comes, and sums are exact */
import * as z from 'zod';
import type { BudgetContext, MeasuredBudget } from '../contract.ts';
import { evictableScores, fallingScores } from '../evictable-scores.ts';
import { realNumber } from '../params.ts';
import { sum } from '../sum.ts';
import { dealt, proportionalBounds, protectedTokens } from './proportional.ts';
import { cutOfBest } from './share-of-best.ts';

const params = z.strictObject({
  max_ratio: realNumber(1, 1000, 10, 'a layer keeps at most so many times the average'),
});

export const dynamickv: MeasuredBudget<typeof params> = {
  name: 'dynamickv',
  summary: 'layers keep their share of the best scores of all layers',
  paper: 'arXiv 2412.14838',
  formula: 'b[l] = P + how many of the H sum(even - P) best evictable scores of the model lie in layer l, / H; at most max_ratio times the average',
  needs: 'the evictable scores of every layer, on the host',
  params,
  signal: 'measured',
  ragged: true,
  queries: () => 0,
  refuses({ scorer: { part } }) {
    if (part.massMap !== null && part.comparable) return null;
    const why = part.comparable ? 'spread alike in every layer' : 'have no common unit';
    return `layer_budget "dynamickv" compares the scores of different layers, and those of scorer "${part.name}" ${why}; use a scorer of shares of attention, such as snapkv`;
  },
  measure: async (context) => fallingScores(await evictableScores(context)),
  limits(signals, context, { max_ratio }) {
    const { kvHeads: H, layers, caps, even } = context;
    const P = protectedTokens(context);
    const most = mostTokens(context, max_ratio);
    const lists = (signals as Float32Array[]).map((scores) => scores.subarray(0, H * (most - P)));
    const { above, equal, left } = cutOfBest(lists, H * (sum(even) - layers * P));
    // N_l: equal scores at the cut count in proportion, so that layers that show the same get the same; all in units of 1 / ties.
    const ties = Math.max(1, sum(equal));
    const counts = above.map((entries, l) => entries * ties + equal[l] * left);
    // Whole tokens: N_l / H rounded up until all layers were seen, and dealt exactly then.
    if (signals.length < layers) return counts.map((count, l) => Math.min(caps[l], Math.max(1, P + Math.ceil(count / ties / H))));
    return dealt(
      counts,
      context,
      caps.map((cap) => Math.min(cap, most)),
    );
  },
  held: (signal, limit, context) => withEqual(signal as Float32Array, (limit - protectedTokens(context)) * context.kvHeads),
  fallback(signals) {
    const edges = signals.flatMap((scores) => (scores.length > 0 ? [scores[0], scores[scores.length - 1]] : []));
    if (signals.length < 2 || edges.some((score) => score !== edges[0])) return null;
    return 'the scores of all layers are equal: every layer keeps as many';
  },
  bounds: (context: BudgetContext) => proportionalBounds(context),
};

/** The first `count` of falling scores, and those after them that equal the last. */
function withEqual(scores: Float32Array, count: number): Float32Array {
  let end = Math.min(count, scores.length);
  while (end > 0 && end < scores.length && scores[end] === scores[end - 1]) end++;
  return scores.slice(0, end);
}

/** The most that a layer may keep; layers of which some are much longer than the others may need more. */
function mostTokens(context: BudgetContext, maxRatio: number): number {
  const P = protectedTokens(context);
  const most = P + Math.ceil(maxRatio * (context.averageBudget - P));
  const room = sum(context.caps.map((cap) => Math.min(cap, most)));
  return room >= sum(context.even) ? most : Math.max(...context.caps);
}
