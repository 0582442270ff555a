/** Composite: the k-th best token of all heads together is one composite token; one cut through those of all layers.          KVCompose, arXiv 2509.05165
 *      c[l,k] = agg_head over h of the k-th largest evictable score of head h;   b_l = P + how many of the K best c of the model lie in layer l
 *      the first of each layer, up to keep_token_lower_bound, are kept in any case
 *  needs     scores that can be compared between layers
 *  conserves sum(b_l) = sum(even), in tokens
 *  cascades  exactly, as "global" does
 *  kvpress keeps trunc(L N (1 - r)) tokens, and gives layer 0 the largest c of all layers at every k, so that it is the longest (what builds its masks takes
 *  the length of layer 0 for all): under compat only, where layer 0 may gain by later layers, so that all are stored whole until the end. */

import * as z from 'zod';
import { readFloats } from '../../worker/backend/backend.ts';
import type { BudgetContext, MeasuredBudget, Signal } from '../contract.ts';
import { InputError } from '../input-error.ts';
import { oneOf, wholeNumber } from '../params.ts';
import { sum } from '../sum.ts';
import { falling, shareOfBest } from './share-of-best.ts';

const params = z.strictObject({
  agg_head: oneOf(['max', 'mean'], 'mean', 'over the heads'),
  keep_token_lower_bound: wholeNumber(0, 32768, 0, 'how many tokens every layer keeps at least'),
});

export const composite: MeasuredBudget<typeof params> = {
  name: 'composite',
  summary: 'one cut through the scores of all layers, ranks of all heads taken together',
  paper: 'arXiv 2509.05165',
  formula: 'b[l] = P + how many of the sum(even - P) best c lie in layer l; c[l,k] = mean over the heads of the k-th best score',
  needs: 'the evictable scores of every layer, on the host',
  params,
  signal: 'measured',
  ragged: true,
  queries: () => 0,
  async measure({ backend, scores, n, shape: { kvHeads: H }, keep }, { agg_head }) {
    const all = await readFloats(backend, scores, H * n);
    const heads = Array.from({ length: H }, (_, h) => falling(all.subarray(h * n + Math.min(n, keep.first), (h + 1) * n - keep.last)));
    return heads[0].map((_, k) => {
      const at = heads.map((scores) => scores[k]);
      return agg_head === 'max' ? Math.max(...at) : at.reduce((sum, score) => sum + score, 0) / H;
    });
  },
  limits(signals, context, { keep_token_lower_bound }) {
    const { compat, protectedTokens: P } = context;
    const sure = sureTokens(context, keep_token_lower_bound);
    const lists = signals.map((signal, l) => (compat && l === 0 ? largest(signals) : (signal as Float32Array)).subarray(sure[l] - P));
    return shareOfBest(lists, tokens(context) - sum(sure)).map((count, l) => sure[l] + count);
  },
  held: (signal, limit, { protectedTokens: P }) => (signal as Float32Array).slice(0, limit - P),
  cascadesInCompat: false,
  entries: (context) => tokens(context) * context.kvHeads,
  bounds(context, { keep_token_lower_bound }) {
    const { caps } = context;
    const sure = sureTokens(context, keep_token_lower_bound);
    const total = tokens(context) - sum(sure);
    const room = sum(caps) - sum(sure);
    return caps.map((cap, l) => ({ min: sure[l] + Math.max(0, total - (room - (cap - sure[l]))), max: Math.min(cap, sure[l] + total) }));
  },
};

/** Of all layers, in tokens per KV head. */
function tokens({ layers, tokens: n, caps, even, compressionRatio, compat }: BudgetContext): number {
  return compat && caps.every((cap) => cap === n) ? Math.trunc(layers * n * (1 - compressionRatio)) : sum(even);
}

/** [L] what every layer keeps in any case. */
function sureTokens(context: BudgetContext, lowerBound: number): number[] {
  const sure = context.caps.map((cap) => Math.max(context.protectedTokens, Math.min(lowerBound, cap)));
  if (sum(sure) <= tokens(context)) return sure;
  const most = Math.floor(tokens(context) / context.layers);
  if (most < context.protectedTokens) {
    const message = `layer_budget "composite" is to keep ${most} tokens per layer, fewer than the ${context.protectedTokens} that are protected; a smaller compression_ratio would work`; // under compat alone: else it is refused before
    throw new InputError('press_budget_tight', 'press.compression_ratio', message);
  }
  throw new InputError(
    'press_param_range',
    'press.layer_budget.keep_token_lower_bound',
    `keep_token_lower_bound ${lowerBound} is more than the ${most} tokens per layer that are kept; ${most} or less would work`,
  );
}

/** The largest of all layers at every rank. */
function largest(signals: readonly Signal[]): Float32Array {
  const most = Float32Array.from(signals[0]);
  for (const signal of signals) for (let k = 0; k < Math.min(most.length, signal.length); k++) most[k] = Math.max(most[k], signal[k]);
  return most;
}
