/** SqueezeAttention: layers whose attention changes the hidden states least keep little, the others share the rest.          arXiv 2404.04793
 *      c_l = mean over the prompt's tokens of cosine(x, x + attention(norm(x))),  x the layer's input
 *      three clusters of the c_l; the n3 layers of the one with the highest centre keep  P + p (B_avg - P),  the others  P + (L - p n3)/(L - n3) (B_avg - P)
 *  conserves sum(b_l) = T, in integers and below the caps as proportional.ts does
 *  does not cascade: a layer may change its cluster as others come, so that every layer is stored whole until the end
 *  The clusters are those of least squared error, found exactly; the method's own k-means starts at random. With fewer than three different c_l there are
 *  fewer clusters; with one, every layer keeps as many. */

import * as z from 'zod';
import { readFloats } from '../../worker/backend/backend.ts';
import type { MeasuredBudget } from '../contract.ts';
import { fraction } from '../params.ts';
import { sum } from '../sum.ts';
import { dealt, proportionalBounds } from './proportional.ts';

const UNIT = 2 ** 40; // weights are whole numbers

const params = z.strictObject({
  squeeze_share: fraction(0.35, 'p: what layers that attention changes least keep, of the average', { above0: true }),
});

export const squeeze: MeasuredBudget<typeof params> = {
  name: 'squeeze',
  summary: 'layers whose attention changes little keep little',
  paper: 'arXiv 2404.04793',
  formula: 'b[l] = p B_avg where cosine(x, x + attention(x)) is in the highest of 3 clusters, else (L - p n3)/(L - n3) B_avg',
  needs: 'hidden states before and after attention',
  cost: 'the last layer attends with all queries, where only the last one is needed otherwise',
  params,
  signal: 'measured',
  ragged: true,
  cascades: false,
  change: true,
  queries: () => 0,
  async measure({ backend, change }) {
    if (!change) return [NaN]; // the report says so
    const cosines = await readFloats(backend, change.cosines, change.tokens);
    return [sum(cosines) / change.tokens];
  },
  limits(signals, context, { squeeze_share: p }) {
    const least = leastChanged(means(signals));
    const [L, n3] = [signals.length, least.size];
    const others = (L - p * n3) / (L - n3);
    const weights = signals.map((_, l) => (n3 === 0 ? 1 : Math.round(UNIT * (least.has(l) ? p : others))));
    return dealt(weights, context, context.caps);
  },
  fallback(signals) {
    const cosines = means(signals);
    if (cosines.some((c) => !Number.isFinite(c))) return 'how much attention changes some layer is not known: every layer keeps as many';
    return cosines.length > 1 && leastChanged(cosines).size === 0 ? 'attention changes all layers alike: every layer keeps as many' : null;
  },
  bounds: proportionalBounds,
};

function means(signals: readonly ArrayLike<number>[]): number[] {
  return signals.map((signal) => signal[0]);
}

/**
 * The layers of the highest of three clusters: the two cuts of the sorted values that leave the least squared error, the lower ones of equal pairs. Equal
 * values stay together. Empty where there is only one value, or one that is no number.
 */
export function leastChanged(values: readonly number[]): ReadonlySet<number> {
  const none: ReadonlySet<number> = new Set();
  if (values.some((x) => !Number.isFinite(x))) return none;
  const sorted = [...values].sort((x, y) => x - y);
  const cuts = [...sorted.keys()].filter((i) => i > 0 && sorted[i] > sorted[i - 1]); // a cluster may begin there
  if (cuts.length === 0) return none;
  const error = (from: number, end: number): number => {
    const part = sorted.slice(from, end);
    const mean = sum(part) / part.length;
    return part.reduce((squares, x) => squares + (x - mean) ** 2, 0);
  };
  let highest = sorted[cuts[cuts.length - 1]]; // two values: the upper one
  let least = Infinity;
  for (const [i, first] of cuts.entries()) {
    for (const second of cuts.slice(i + 1)) {
      const squares = error(0, first) + error(first, second) + error(second, sorted.length);
      if (squares >= least) continue;
      least = squares;
      highest = sorted[second];
    }
  }
  return new Set([...values.keys()].filter((l) => values[l] >= highest));
}
