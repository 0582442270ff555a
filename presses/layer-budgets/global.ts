/** Global: one cut through the scores of all layers and heads; a layer keeps what it has above it.          KVzip, arXiv 2505.23416
 *      b_l = P + |{ (h, t) of layer l among the K best evictable scores of the model }| / H,   K = H sum over layers of (even - P)
 *  needs     scores that can be compared between layers, and a head budget that deals single entries: adakv with alpha_safeguard 0 keeps exactly the K best
 *  conserves sum(b_l) = sum(even), in entries
 *  cascades  exactly: a new layer only raises the cut, so the earlier ones only lose entries. Of their scores no more is held than they keep
 *  kvpress evicts trunc(L H N r) entries, or of each layer trunc(H N r), where this keeps H keptCount(N, r) per layer on average: its count under compat. */
import * as z from 'zod';
import type { BudgetContext, MeasuredBudget } from '../contract.ts';
import { evictableScores, fallingScores } from '../evictable-scores.ts';
import { trueOrFalse } from '../params.ts';
import { sum } from '../sum.ts';
import { shareOfBest } from './share-of-best.ts';

const params = z.strictObject({
  layerwise: trueOrFalse(false, 'every layer keeps equally many entries, and only its heads compete'),
});

export const global: MeasuredBudget<typeof params> = {
  name: 'global',
  summary: 'one cut through the scores of all layers and heads',
  paper: 'arXiv 2505.23416',
  formula: 'b[l] = P + how many of the H sum(even - P) best evictable scores of the model lie in layer l, / H',
  needs: 'the evictable scores of every layer, on the host',
  params,
  signal: 'measured',
  ragged: true,
  perEntry: true,
  queries: () => 0,
  measure: async (context) => fallingScores(await evictableScores(context)),
  limits(signals, context, { layerwise }) {
    const { layers, kvHeads: H, protectedTokens: P } = context;
    const best = total(context) - layers * H * P;
    if (layerwise || best < 0) return signals.map((_, l) => share(context, l)); // best < 0 under compat alone: not all of the protected fit
    return shareOfBest(signals as Float32Array[], best).map((entries) => P + entries / H);
  },
  held: (signal, limit, { kvHeads: H, protectedTokens: P }) => (signal as Float32Array).slice(0, Math.max(0, Math.round((limit - P) * H))),
  entries: (context, { layerwise }) => (layerwise ? sum(context.caps.map((_, l) => share(context, l))) * context.kvHeads : total(context)),
  bounds(context, { layerwise }) {
    const { layers, caps, protectedTokens: P, kvHeads: H } = context;
    const best = total(context) / H - layers * P;
    if (layerwise || best < 0) return caps.map((_, l) => ({ min: share(context, l), max: share(context, l) }));
    const room = sum(caps) - layers * P;
    return caps.map((cap) => ({ min: P + Math.max(0, best - (room - (cap - P))), max: Math.min(cap, P + best) }));
  },
};

/** Entries of all layers and heads. */
function total({ layers, tokens, caps, even, compressionRatio, compat, kvHeads: H }: BudgetContext): number {
  const all = layers * H * tokens;
  return compat && caps.every((cap) => cap === tokens) ? all - Math.trunc(all * compressionRatio) : H * sum(even);
}

/** What layer l keeps where layers do not compete. */
function share({ tokens, caps, even, compressionRatio, compat, kvHeads: H }: BudgetContext, l: number): number {
  const all = H * tokens;
  return compat && caps[l] === tokens ? (all - Math.trunc(all * compressionRatio)) / H : even[l];
}
