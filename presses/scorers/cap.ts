/** CAP: values that no others could stand in for, among those that queries yet to come point at, stay.          arXiv 2604.25975
 *      g_a = R mean_t q_t,a before RoPE, of the queries behind the sinks, R the mean of the rotations at the next F positions
 *      w_j = exp(tau (cos(g_a, k_j) - max_i cos(g_a, k_i)));   M_a = I + sum_j (w_j + epsilon) v_j v_j^T;   s[h,j] = groupMean_a w_j v_j^T M_a^-1 v_j
 *  needs     all queries, keys, values
 *  The sinks are protected, and outside of every sum. As kvpress has it; the paper takes keys and queries unnormalised and not turned. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { realNumber, wholeNumber } from '../params.ts';
import { solved } from '../solved.ts';
import { turnAhead, withoutRopeBytes } from '../without-rope.ts';
import { ofQueries } from './expected-attention.ts';

const F32 = 4;

const params = z.strictObject({
  tau: realNumber(0, 80, 5, 'how much more a key counts that points where queries do'),
  n_future_positions: wholeNumber(1, 65536, 512, 'F: how many of the next positions the mean rotation is of'),
  n_sink: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept; they count nowhere else'),
  epsilon: realNumber(0, 1, 1e-6, 'what every value counts at least'),
});

export const cap: Scorer<typeof params> = {
  name: 'cap',
  summary: 'keeps values that no others could stand in for, where queries yet to come point at them',
  paper: 'arXiv 2604.25975',
  formula:
    's[h,j] = mean over the group of w[j] v[j]ᵀ (I + sum over i of (w[i] + epsilon) v[i] v[i]ᵀ)^-1 v[j]; w[j] = exp(tau (cos(g, k[j]) - max)), g = mean query turned ahead',
  needs: 'keys, values, all queries',
  params,
  comparable: true, // leverages, each between 0 and 1
  massMap: 'identity',
  protectedBy: 'n_sink',
  queries: () => Infinity,
  someQueries: true,
  protect: ({ n_sink }) => ({ first: n_sink, last: 0 }),
  scratchBytes(size) {
    const { n, window, queryHeads: Hq, kvHeads: H, headDim: d } = size;
    return withoutRopeBytes(window, Hq, size) + F32 * (Hq * d + d + 3 * Hq * n + H * n + 2 * Hq * d * d + Hq) + 1024;
  },
  score(context, { tau, n_future_positions, n_sink, epsilon }) {
    const { backend, scratch, n, k, v, shape, start, window } = context;
    const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
    const sinks = Math.min(n_sink, n - 1); // a prompt that is all sinks is kept whole, whatever comes of it
    const { mean: anchors } = ofQueries(context, n_sink, false); // [Hq, d]
    turnAhead(context, anchors, Hq, start + window, n_future_positions, false);

    const weights = scratch(Hq * n * F32, 'cap weights'); // [Hq, n]; those of the sinks are not read
    backend.cosineTo(weights, n, k, anchors, n, Hq, H, d, tau);
    backend.rowSoftmax(at(weights, sinks * F32), Hq, n - sinks, n, true);
    const gram = scratch(Hq * d * d * F32, 'cap matrices');
    const counted = { rows: at(weights, sinks * F32), stride: n, epsilon };
    backend.weightedGram(gram, at(v, sinks * H * d * F32), counted, null, n - sinks, Hq, H, d, 1);
    const matrices = solved(context, gram, Hq, d, 1, 'cap');

    const leverage = scratch(Hq * n * F32, 'cap leverages');
    backend.quadraticForm(leverage, n, v, { quadratic: { matrices, factor: 1, squared: true } }, n, Hq, H, d);
    const weighed = scratch(Hq * n * F32, 'cap by query head');
    backend.weigh(weighed, leverage, weights, Hq, Hq, n, 0);
    const scores = scratch(H * n * F32, 'cap scores');
    backend.groupMean(scores, weighed, H, Hq / H, n);
    return scores;
  },
};
