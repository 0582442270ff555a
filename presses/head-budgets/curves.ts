/** LU-KV's heads: a layer's budget is dealt as the curves say its heads share it.          arXiv 2602.08585
 *      counts = the first H b of the places (h, i), i = 1, 2, ..., in the order of (i - 1/2) / kappa_h: a divisor rule (Webster), so P <= count <= n
 *  needs     the artefact, measured for the model and the scorer; nothing of the prompt
 *  conserves sum over heads = H b
 *  nests     places only leave at the end as b falls
 *  kvpress gives the largest remainders of kappa_h N one entry each, whatever b is: so under compat. It differs by an entry here and there. */
import * as z from 'zod';
import { artifactName } from '../artifacts.ts';
import type { HeadBudget } from '../contract.ts';
import { aboutCurves, curvesNeed, keptShares, kvpressEntries } from '../curves.ts';
import { sum } from '../sum.ts';

const params = z.strictObject({ curves: artifactName(aboutCurves) });

export const curves: HeadBudget<typeof params> = {
  name: 'curves',
  summary: "a layer's budget goes to its heads as curves measured offline say",
  paper: 'arXiv 2602.08585',
  formula: 'counts in proportion to kappa[l,h] = 1 - c[r,l,h], exactly H b[l] together',
  needs: 'nothing of the prompt',
  params,
  artifact: curvesNeed,
  ragged: true,
  counts({ index, protectedTokens: P }, b, context, { curves: name }) {
    const { compat, kvHeads: H, caps, artifact } = context;
    const shares = keptShares(artifact(name), index, context);
    const entries = Math.round(H * b);
    if (compat) {
      const counts = kvpressEntries(shares, caps[index]);
      if (sum(counts) === entries) return counts; // the layer's budget is the curves' too
    }
    return webster(shares, entries, Math.min(P, Math.floor(b)), caps[index]);
  },
};

/** Whole numbers between `least` and `most` that sum to `total`, in proportion to `shares`; each can only fall as `total` does. */
export function webster(shares: readonly number[], total: number, least: number, most: number): number[] {
  const counts = shares.map(() => least);
  let left = total - least * shares.length;
  const next = (h: number): number => (counts[h] < most ? (counts[h] + 0.5) / Math.max(shares[h], 1e-9) : Infinity);
  // A prefix of the order: all places up to a threshold that surely takes no more than there are.
  let [low, high] = [0, (most + 1) / 1e-9];
  const upTo = (t: number): number[] => shares.map((share) => Math.min(most, Math.max(least, Math.floor(t * Math.max(share, 1e-9) + 0.5))));
  for (let step = 0; step < 64; step++) {
    const middle = (low + high) / 2;
    if (sum(upTo(middle)) <= total) low = middle;
    else high = middle;
  }
  for (const [h, count] of upTo(low).entries()) {
    left -= count - counts[h];
    counts[h] = count;
  }
  for (; left > 0; left--) {
    let best = 0;
    for (let h = 1; h < counts.length; h++) if (next(h) < next(best)) best = h;
    counts[best]++;
  }
  return counts;
}
