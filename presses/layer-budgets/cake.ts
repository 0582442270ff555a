/** CAKE: layers whose attention spreads wide and shifts from query to query get more room.          arXiv 2503.12491
 *      b_l = P + (T - L P) P_l / sum(P),   P_l = D_l^(1/tau1) V_l^(1/tau2)
 *      D_l = -sum over heads a, window queries i, keys j of A ln A;   V_l = sum over a, j of the variance of A over i;   j < N - W
 *  needs     the last cake_window queries
 *  conserves sum(b_l) = T;  cascades as proportional.ts says: the method's own idea
 *  D and V are taken per query and head here, which leaves the ratios between layers as they are. */
import * as z from 'zod';
import { at, readFloats } from '../../worker/backend/backend.ts';
import type { MeasuredBudget } from '../contract.ts';
import { realNumber, wholeNumber } from '../params.ts';
import { sum } from '../sum.ts';
import { windowMoments } from '../window-attention.ts';
import { proportional, proportionalBounds, proportionalFallback } from './proportional.ts';

const F32 = 4;

const params = z.strictObject({
  tau1: realNumber(0.1, 10, 1, 'how little the spread of attention over keys counts'),
  tau2: realNumber(0.1, 10, 1, 'how little its shift from query to query counts'),
  cake_window: wholeNumber(2, 4096, 32, 'W: how many of the last queries are looked at'),
});

export const cake: MeasuredBudget<typeof params> = {
  name: 'cake',
  summary: 'layers whose attention spreads and shifts keep more',
  paper: 'arXiv 2503.12491',
  formula: 'b[l] = B D^(1/tau1) V^(1/tau2) / sum; D = entropy of window attention, V = its variance over the queries',
  needs: 'the last cake_window queries',
  cost: 'the last cake_window queries meet every key once more, for variance and entropy',
  params,
  signal: 'measured',
  ragged: true,
  queries: ({ cake_window }) => cake_window,
  scratchBytes: ({ n, queryHeads, kvHeads }) => (3 * queryHeads + 2 * kvHeads) * n * F32,
  async measure(context, { cake_window }) {
    const { backend, scratch, n, window, shape } = context;
    const { queryHeads: Hq, kvHeads: H } = shape;
    const W = Math.min(cake_window, window, n - 1);
    const moments = windowMoments(context, W); // [3, Hq, n]
    const means = scratch(2 * H * n * F32, 'group means of variance and entropy'); // [2, H, n]: G times less to read
    for (const plane of [0, 1]) backend.groupMean(at(means, plane * H * n * F32), at(moments, (plane + 1) * Hq * n * F32), H, Hq / H, n);
    const read = await readFloats(backend, means, 2 * H * n);
    const candidates = (plane: number): number =>
      sum(Array.from({ length: H }, (_, h) => sum(read.subarray((plane * H + h) * n, (plane * H + h) * n + n - W))));
    const [shift, spread] = [candidates(0) / H, candidates(1) / H / W];
    return [spread, shift];
  },
  limits: (signals, context, params) => proportional(preferences(signals, params), context),
  fallback: (signals, params) => proportionalFallback(preferences(signals, params)),
  bounds: proportionalBounds,
};

function preferences(signals: readonly ArrayLike<number>[], { tau1, tau2 }: z.infer<typeof params>): number[] {
  return signals.map(({ 0: spread, 1: shift }) => spread ** (1 / tau1) * shift ** (1 / tau2));
}
