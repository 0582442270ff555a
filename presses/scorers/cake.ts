/** CAKE: tokens that the last queries attend to much, or now and then, stay.          arXiv 2503.12491
 *      s[h,j] = groupMean_a avgPool( mean_i A[a,i,j] + gamma var_i A[a,i,j] ),   i over the last W queries, var divided by W - 1,  j < N-W;   the window is protected
 *  All but A is linear, so the group mean comes before the pooling: G times less to pool. Pooling is of the evictable columns, zeros beyond. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { oddNumber, realNumber, wholeNumber } from '../params.ts';
import { windowMoments } from '../window-attention.ts';

const F32 = 4;

const params = z.strictObject({
  window_size: wholeNumber(1, 4096, 32, 'W: how many of the last queries observe; these tokens are always kept'),
  kernel_size: oddNumber(1, 255, 5, 'width of the average pooling over neighbouring tokens'),
  gamma: realNumber(0, 1e6, 200, 'how much the variance counts beside the mean'),
});

export const cake: Scorer<typeof params> = {
  name: 'cake',
  summary: 'keeps what the last queries attend to, much or by turns',
  paper: 'arXiv 2503.12491',
  formula: 's[h,j] = mean over the group of avgPool(mean + gamma variance over the last W queries i of attention(i, j))',
  needs: 'keys, the last window_size queries',
  cost: 'the last window_size queries meet every key once more, for mean and variance',
  params,
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: 'window_size',
  queries: ({ window_size }) => window_size,
  protect: ({ window_size }) => ({ first: 0, last: window_size }),
  scratchBytes: ({ n, queryHeads }) => 3 * queryHeads * n * F32,
  score(context, { window_size, kernel_size, gamma }) {
    const { backend, scratch, n, shape } = context;
    const { queryHeads: Hq, kvHeads: H } = shape;
    const W = Math.min(window_size, n - 1); // fewer only where on_tight "uniform" lets a short prompt pass
    const moments = windowMoments(context, W); // [3, Hq, n]
    const worth = scratch(Hq * n * F32, 'mean and variance of attention'); // [Hq, n]
    backend.blend(worth, moments, at(moments, Hq * n * F32), 1, gamma, Hq * n);
    const mean = scratch(H * n * F32, 'cake means'); // [H, n]
    backend.groupMean(mean, worth, H, Hq / H, n);
    const scores = scratch(H * n * F32, 'cake scores'); // [H, n]
    backend.avgPool(scores, mean, H, n - W, n, kernel_size);
    for (let h = 0; h < H; h++) {
      const window = (h * n + n - W) * F32; // never read by a press; defined, because inspect shows it
      backend.copy(at(scores, window), at(mean, window), W * F32);
    }
    return scores;
  },
};
