/** AdaKV, floor form: the H b best (head, token) pairs of the layer stay, whichever head they fall in.          arXiv 2407.11550
 *      each head's best floor(alpha b) are safe;   the rest of the H b places go to the best of all other scores of the layer
 *  needs     scores that can be compared between heads
 *  conserves sum over heads = H b
 *  nests     the kept set only shrinks as b falls, so a budget can be lowered later without looking at evicted tokens
 *  The paper blends (1 - alpha) N[h] + alpha b instead; kvpress's form is the one here. Evicted entries are really freed: heads differ in length. */
import * as z from 'zod';
import type { BudgetContext, HeadBudget } from '../contract.ts';
import { fraction } from '../params.ts';

const params = z.strictObject({
  alpha_safeguard: fraction(0.2, 'the fraction of the budget that every head keeps for sure; 1 = uniform'),
});

export const adakv: HeadBudget<typeof params> = {
  name: 'adakv',
  summary: "a layer's budget goes to the heads whose scores are highest",
  paper: 'arXiv 2407.11550',
  formula: 'the H b[l] best scores of the layer stay, at least alpha b[l] of each head',
  needs: 'scores of all heads, sorted, on the host',
  params,
  ragged: true,
  counts({ sorted, protectedTokens: P }, b, context, params) {
    const { kvHeads: H, math } = context;
    if (b <= P) return Array(H).fill(Math.floor(b));
    const safe = Math.max(0, safeguard(b, context, params) - P); // protected tokens are the first of a head's safe ones
    return math.adaCounts(sorted, Math.round(H * (b - P)), safe).map((evictable) => P + evictable);
  },
};

/** floor(alpha b): how many of its best every head keeps. */
export function safeguard(b: number, { compat, math }: BudgetContext, { alpha_safeguard }: z.infer<typeof params>): number {
  // kvpress's int(b * alpha) truncates 100 * 0.29 to 28; keptCount of the rest gives 29
  return compat ? Math.floor(b * alpha_safeguard) : math.keptCount(Math.floor(b), 1 - alpha_safeguard, false);
}
