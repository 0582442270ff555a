/** LU-KV: every layer keeps what its heads' curves say together.          arXiv 2602.08585
 *      kappa[l,h] = 1 - c[r,l,h], c[r] the curve of round(100 r) %, 1 to 99;   b_l = T kappa_l / sum(kappa),  kappa_l = sum over heads of kappa[l,h],  T = sum(even), in entries
 *  needs     the artefact, measured for the model and the scorer; nothing of the prompt
 *  conserves sum(b_l) = sum(even), in entries: largest remainder, caps and floors (P, or 1 token) water-filled
 *  kvpress rounds kappa N to whole entries layer by layer, whatever they sum to: so under compat. */
import * as z from 'zod';
import { artifactName } from '../artifacts.ts';
import type { BudgetContext, PlannedBudget } from '../contract.ts';
import { aboutCurves, curvesNeed, keptShares, kvpressEntries } from '../curves.ts';
import { sum } from '../sum.ts';

const params = z.strictObject({ curves: artifactName(aboutCurves) });

/** Shares as the whole numbers that `allocate` takes: 2^20 a head leaves room for its products. */
const UNIT = 2 ** 20;

export const curves: PlannedBudget<typeof params> = {
  name: 'curves',
  summary: 'every layer keeps what curves measured offline say of its heads',
  paper: 'arXiv 2602.08585',
  formula: 'b[l] = T kappa[l]/sum(kappa), kappa = 1 - c[r], the fraction that the curves keep of each head at ratio r',
  needs: 'nothing of the prompt',
  params,
  artifact: curvesNeed,
  signal: 'none',
  ragged: true,
  perEntry: true,
  fallback(context, { curves: name }) {
    const shares = context.caps.flatMap((_, l) => keptShares(context.artifact(name), l, context));
    return shares.some((share) => share > 0) ? null : `${name} keeps nothing of any head at this ratio: all layers get the same`;
  },
  limits(_signals, context, { curves: name }) {
    const { layers, caps, compat, kvHeads: H, artifact } = context;
    const shares = Array.from({ length: layers }, (_, l) => keptShares(artifact(name), l, context));
    if (compat) return shares.map((share, l) => sum(kvpressEntries(share, caps[l])) / H);
    return deal(shares.map(sum), context).map((entries) => entries / H);
  },
  entries: (context, params) => Math.round(context.kvHeads * sum(curves.limits([], context, params))),
  bounds: (context, params) => curves.limits([], context, params).map((b) => ({ min: b, max: b })),
};

/** Entries of each layer in proportion to `weights`: exactly those of the even shares, H P at least and H n at most. */
function deal(weights: readonly number[], { even, caps, kvHeads: H, protectedTokens: P, layers, math }: BudgetContext): number[] {
  const total = H * sum(even);
  const least = Math.min(H * Math.max(1, P), Math.floor(total / layers)); // less only where P does not fit, which is refused
  const entries = new Array<number>(layers).fill(least);
  let free = Array.from({ length: layers }, (_, l) => l);
  for (;;) {
    const left = total - least * (layers - free.length);
    const dealt = math.allocate(
      free.map((l) => Math.round(weights[l] * UNIT)),
      left,
      0,
      free.map((l) => H * caps[l]),
      false,
    );
    const short = free.filter((_, i) => dealt[i] < least);
    if (short.length === 0) {
      for (const [i, l] of free.entries()) entries[l] = dealt[i];
      return entries;
    }
    free = free.filter((l) => !short.includes(l)); // these get the least; the others share what is left
  }
}
