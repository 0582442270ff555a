/** LAVa: what the last queries attend to stays, in the neighbourhood of the most attended, by how long the head's values are.          arXiv 2509.09754
 *      s[h,j] = max over the group of maxPool( mean_i A[a,i,j] ) * max over t < N-W of norm1(V[t,h]),   i over the last W queries,  j < N-W;   the window is protected
 *  One length a head, the largest: that gives scores of different heads and layers a common unit. Every step but the mean is a maximum or a positive
 *  factor, so their order is free: groups first. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { oddNumber, wholeNumber } from '../params.ts';
import { windowAttention } from '../window-attention.ts';

const F32 = 4;

const params = z.strictObject({
  window_size: wholeNumber(1, 4096, 32, 'W: how many of the last queries observe; these tokens are always kept'),
  kernel_size: oddNumber(1, 255, 7, 'width of the maximum pooling over neighbouring tokens'),
});

export const lava: Scorer<typeof params> = {
  name: 'lava',
  summary: 'keeps what the last queries attend to, in units of what the heads can add to the output',
  paper: 'arXiv 2509.09754',
  formula: 's[h,j] = max over the group of maxPool(mean over the last W queries i of attention(i, j)) max over t of norm1(V[t,h])',
  needs: 'keys, values, the last window_size queries',
  cost: 'the last window_size queries meet every key once more',
  params,
  comparable: true, // what the values can add
  massMap: 'identity',
  protectedBy: 'window_size',
  queries: ({ window_size }) => window_size,
  protect: ({ window_size }) => ({ first: 0, last: window_size }),
  scratchBytes: ({ n, kvHeads }) => kvHeads * n * F32,
  score(context, { window_size, kernel_size }) {
    const { backend, scratch, v, n, shape } = context;
    const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
    const W = Math.min(window_size, n - 1); // fewer only where on_tight "uniform" lets a short prompt pass
    const most = scratch(H * n * F32, 'lava maxima'); // [H, n]
    backend.groupMax(most, windowAttention(context, W), H, Hq / H, n);
    const pooled = scratch(H * n * F32, 'lava maxima of neighbours'); // [H, n]
    backend.maxPool(pooled, most, H, n - W, n, kernel_size);
    for (let h = 0; h < H; h++) {
      const window = (h * n + n - W) * F32; // never read by a press; defined, because inspect shows it
      backend.copy(at(pooled, window), at(most, window), W * F32);
    }
    const scores = scratch(H * n * F32, 'lava scores'); // [H, n]
    backend.normScale(scores, pooled, v, n, n - W, H, d);
    return scores;
  },
};
