/** PyramidKV: lower layers keep more, in a straight line.          arXiv 2406.02069
 *      lo = b/beta,  hi = 2b - lo  (hi <= N - W, lo = 2b - hi);   b_l = hi - l (hi - lo)/(L - 1)
 *  Uniform where the ramp would not fit: unless N >= hi >= lo >= W, and with a single layer.
 *  conserves sum(b_l) = L b */
import * as z from 'zod';
import type { PlannedBudget } from '../contract.ts';
import { InputError } from '../input-error.ts';
import { realNumber } from '../params.ts';

const params = z.strictObject({
  beta: realNumber(1, 1000, 20, 'steepness: the last layer keeps about b/beta tokens; 1 = uniform'),
});

export const pyramid: PlannedBudget<typeof params> = {
  name: 'pyramid',
  summary: 'lower layers keep more, in a straight line',
  paper: 'arXiv 2406.02069',
  formula: 'b[l] = hi - l(hi - lo)/(L - 1), lo = b/beta, hi = 2b - lo; uniform where lo is less than what the scorer protects',
  needs: 'nothing',
  params,
  signal: 'none',
  ragged: true,
  limits(_signals, { layers, tokens, caps, even, protectedTokens, compressionRatio, compat, math }, { beta }) {
    if (caps.some((cap) => cap !== tokens)) {
      throw new InputError(
        'press_composition',
        'press',
        'layer_budget "pyramid" needs layers of equal length, and an earlier press made them unequal; put it first, or make the earlier one uniform',
      );
    }
    if (layers === 1) return [...even];
    return math.pyramid(layers, tokens, compressionRatio, protectedTokens, beta, compat);
  },
  fallback(context, params) {
    const { protectedTokens: W, averageBudget: b, tokens: N } = context;
    const budgets = pyramid.limits([], context, params);
    if (params.beta === 1 || context.layers === 1 || new Set(budgets).size > 1) return null;
    const even = `every layer keeps ${budgets[0]} tokens, for`;
    if (b > N - W) return `${even} none can keep more than the ${N - W} that are not protected; a higher ratio makes a ramp`;
    const least = Math.max(Math.floor(b / params.beta), 2 * b - (N - W)); // lo
    return `${even} a ramp would leave ${least} to the last one, fewer than the ${W} protected ones; fewer of these, a smaller beta or a lower ratio makes a ramp`;
  },
  bounds(context, params) {
    return pyramid.limits([], context, params).map((b) => ({ min: b, max: b }));
  },
};
