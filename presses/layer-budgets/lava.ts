/** LAVa: layers whose scores are spread over more heads and tokens get more room.          arXiv 2509.09754
 *      b_l = P + (T - L P) e_l / sum(e),   e_l = -sum of p ln p / ln(H c),   p = s / sum of s over all heads and the c evictable tokens of the layer
 *  needs     scores whose sizes mean something: masses as for LMBA
 *  conserves sum(b_l) = T;  cascades as proportional.ts says */
import type { MeasuredBudget } from '../contract.ts';
import { evictableScores, toMasses } from '../evictable-scores.ts';
import { noParams } from '../params.ts';
import { proportional, proportionalBounds, proportionalFallback } from './proportional.ts';

export const lava: MeasuredBudget<typeof noParams> = {
  name: 'lava',
  summary: 'layers whose scores are spread over more heads and tokens keep more',
  paper: 'arXiv 2509.09754',
  formula: 'b[l] = B e[l]/sum(e), e = entropy of the normalised evictable scores of all heads / ln of their number',
  needs: 'the evictable scores of every layer, on the host',
  params: noParams,
  signal: 'measured',
  ragged: true,
  queries: () => 0,
  refuses({ scorer }) {
    if (scorer.part.massMap !== null) return null;
    return `layer_budget "lava" measures how widely the scores spread, and those of scorer "${scorer.part.name}" spread alike in every layer; use a scorer that looks at the tokens, such as lava or snapkv`;
  },
  async measure(context) {
    const masses = (await evictableScores(context)).map((scores) => toMasses(scores, context.massMap!));
    let all = 0;
    for (const head of masses) for (const mass of head) all += mass;
    let entropy = 0;
    for (const head of masses) for (const mass of head) entropy -= mass > 0 ? (mass / all) * Math.log(mass / all) : 0;
    const entries = masses.reduce((count, head) => count + head.length, 0);
    return [Number.isFinite(all) ? entropy / Math.log(Math.max(2, entries)) : NaN];
  },
  limits: (signals, context) => proportional(entropies(signals), context),
  fallback: (signals) => proportionalFallback(entropies(signals)),
  bounds: proportionalBounds,
};

function entropies(signals: readonly ArrayLike<number>[]): number[] {
  return signals.map((signal) => signal[0]);
}
