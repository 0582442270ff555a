/** Lazy: a layer whose last queries look at little but the first and the most recent tokens keeps those alone, any other layer everything.          SimLayerKV, arXiv 2410.13846
 *      m_l = mean over heads and the last n_last queries of the attention on the first n_initial and the last n_recent tokens
 *      b_l = n_initial + n_recent if m_l > lazy_threshold, else N;   N as well where that is all there is
 *  needs     a scorer that keeps those tokens: streaming_llm with n_sink = n_initial
 *  conserves nothing: the total is a result
 *  cascades  trivially: no layer's budget depends on another's
 *  kvpress leaves the n_last newest tokens out of m, keeps n_recent - n_last recent ones, which for n_recent = n_last duplicates tokens, and keeps everything at a
 *  threshold of 1, its default: all that but the duplicates under compat. */
import * as z from 'zod';
import { at, readFloats } from '../../worker/backend/backend.ts';
import type { BudgetContext, MeasuredBudget } from '../contract.ts';
import { InputError } from '../input-error.ts';
import { fraction, wholeNumber } from '../params.ts';
import { sum } from '../sum.ts';
import { windowAttention } from '../window-attention.ts';

const F32 = 4;

const params = z.strictObject({
  lazy_threshold: fraction(0.9, 'the share of the attention above which a layer is lazy'),
  n_last: wholeNumber(1, 256, 1, 'how many of the last queries are looked at'),
  n_recent: wholeNumber(1, 1_000_000, 1024, 'how many of the last tokens a lazy layer keeps'),
  n_initial: wholeNumber(0, 4096, 4, 'how many of the first tokens a lazy layer keeps'),
});
type Params = z.infer<typeof params>;

export const lazy: MeasuredBudget<typeof params> = {
  name: 'lazy',
  summary: 'layers that look at little but the first and the most recent tokens keep those alone, the others everything',
  paper: 'arXiv 2410.13846',
  formula: 'b[l] = n_initial + n_recent if the last queries pay them more than lazy_threshold of their attention, else N',
  needs: 'the last n_last queries',
  params,
  decidesTotal: 'lazy_threshold, n_initial and n_recent',
  signal: 'measured',
  ragged: true,
  queries: ({ n_last }) => n_last,
  scratchBytes: ({ n, queryHeads }) => (queryHeads + 1) * n * F32,
  async measure(context, { n_last, n_recent, n_initial }) {
    const { backend, scratch, n, window, shape, compat } = context;
    const W = Math.min(n_last, window, n - 1);
    const mean = scratch(n * F32, 'attention of the last queries, mean over the heads'); // [n]
    backend.groupMean(mean, windowAttention(context, W), 1, shape.queryHeads, n);
    const seen = compat ? n - W : n;
    const recent = Math.min(n_recent, seen);
    const first = Math.min(n_initial, compat ? seen : seen - recent); // kvpress counts twice what is both
    const read = async (from: number, count: number): Promise<number> =>
      count === 0 ? 0 : sum(await readFloats(backend, at(mean, from * F32), count));
    const [initial, latest] = await Promise.all([read(0, first), read(seen - recent, recent)]);
    return [initial + latest];
  },
  limits(signals, context, given) {
    const kept = keptOfLazy(context, given);
    return signals.map(({ 0: share }, l) =>
      share > given.lazy_threshold && canBeLazy(context.caps[l], context, given) ? Math.min(kept, context.caps[l]) : context.caps[l],
    );
  },
  keepsAll(context, given) {
    const { n_initial, n_recent, lazy_threshold } = given;
    if (context.caps.some((cap) => canBeLazy(cap, context, given))) return null;
    return context.compat && lazy_threshold === 1
      ? 'no share is above a lazy_threshold of 1'
      : `lazy layers keep the first ${n_initial} and the last ${n_recent} tokens, and there are ${context.tokens}; a smaller n_recent would remove some`;
  },
  fallback(signals, { lazy_threshold }) {
    const most = Math.max(...signals.map(({ 0: share }) => share));
    if (most > lazy_threshold) return null;
    return `no layer is lazy: first and recent tokens get ${most.toFixed(2)} of a layer's attention at most, and lazy_threshold is ${lazy_threshold}`;
  },
  bounds(context, given) {
    const kept = keptOfLazy(context, given);
    return context.caps.map((cap) => ({ min: canBeLazy(cap, context, given) ? Math.min(kept, cap) : cap, max: cap }));
  },
};

function keptOfLazy({ compat }: BudgetContext, { n_last, n_recent, n_initial }: Params): number {
  if (!compat) return n_initial + n_recent;
  if (n_recent > n_last) return n_initial + n_recent - n_last;
  const message = `n_recent must be above n_last under compat "kvpress", which keeps n_recent - n_last recent tokens, got ${n_recent} and ${n_last}`;
  throw new InputError('press_param_range', 'press.layer_budget.n_recent', message);
}

function canBeLazy(tokens: number, { compat }: BudgetContext, { lazy_threshold, n_last, n_recent, n_initial }: Params): boolean {
  return compat ? lazy_threshold < 1 && tokens > n_initial + n_recent + n_last : tokens > n_initial + n_recent;
}
