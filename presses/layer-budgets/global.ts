/** Global: one cut through the scores of all layers and heads; a layer keeps what it has above it.          KVzip, arXiv 2505.23416
 *      b_l = P + |{ (h, t) of layer l among the K best evictable scores of the model }| / H,   K = H sum over layers of (even - P)
 *  needs     scores that can be compared between layers, and a head budget that deals single entries: adakv with alpha_safeguard 0 keeps exactly the K best
 *  conserves sum(b_l) = sum(even), in entries
 *  cascades  exactly: a new layer only raises the cut, so the earlier ones only lose entries. Of their scores no more is held than they keep
 *  kvpress evicts trunc(L H N r) entries, or of each layer trunc(H N r), where this keeps H keptCount(N, r) per layer on average: its count under compat. */
import * as z from 'zod';
import type { BudgetContext, MeasuredBudget, SignalContext } from '../contract.ts';
import { trueOrFalse } from '../params.ts';
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
  measure: async (context) => falling(await evictableScores(context)),
  limits(signals, context, { layerwise }) {
    const { layers, kvHeads: H, protectedTokens: P, caps } = context;
    const total = evictable(context, layerwise);
    if (layerwise) return signals.map((_, l) => Math.min(caps[l], P + Math.floor(total / layers) / H));
    return shareOfBest(signals as Float32Array[], total).map((entries) => P + entries / H);
  },
  held: (signal, limit, { kvHeads: H, protectedTokens: P }) => (signal as Float32Array).slice(0, Math.round((limit - P) * H)),
  entries: (context, { layerwise }) => evictable(context, layerwise) + context.layers * context.kvHeads * context.protectedTokens,
  bounds(context, { layerwise }) {
    const { layers, caps, protectedTokens: P, kvHeads: H } = context;
    const total = evictable(context, layerwise);
    const even = P + Math.floor(total / layers) / H;
    if (layerwise) return caps.map((cap) => ({ min: Math.min(cap, even), max: Math.min(cap, even) }));
    const room = caps.reduce((sum, cap) => sum + cap - P, 0);
    return caps.map((cap) => ({ min: P + Math.max(0, total / H - (room - (cap - P))), max: Math.min(cap, P + total / H) }));
  },
};

/** K. */
function evictable(
  { layers, tokens, caps, even, compressionRatio, compat, kvHeads: H, protectedTokens: P }: BudgetContext,
  layerwise: boolean,
): number {
  if (!compat || caps.some((cap) => cap !== tokens)) return H * even.reduce((sum, b) => sum + b - P, 0);
  const parts = layerwise ? layers : 1;
  const entries = (layers / parts) * H * tokens;
  return parts * (entries - Math.trunc(entries * compressionRatio)) - layers * H * P;
}

/** The scores of all heads, or one list a head, without the protected tokens'. What is no number ranks last. */
async function evictableScores({ backend, scores, n, shape: { kvHeads: H }, keep }: SignalContext): Promise<Float32Array> {
  const all = new Float32Array((await backend.read(scores, H * n * 4)).slice().buffer);
  const heads = Array.from({ length: H }, (_, h) => all.subarray(h * n + Math.min(n, keep.first), (h + 1) * n - keep.last));
  return Float32Array.from(heads.flatMap((list) => Array.from(list, (score) => (Number.isNaN(score) ? -Infinity : score))));
}

function falling(scores: Float32Array): Float32Array {
  return scores.sort().reverse();
}
