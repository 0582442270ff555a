/** SnapKV: what the last W queries attend to stays, with its neighbourhood.          arXiv 2404.14469
 *      m[a,j] = mean over the window's queries i of P[a,i,j];   s[h,j] = groupMean_a avgPool(m)[a,j],  j < N-W;   the window is protected
 *  Both are linear, so the group mean comes first here: G times less to pool. Equal to kvpress's order up to rounding. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { oddNumber, wholeNumber } from '../params.ts';
import { windowAttention } from '../window-attention.ts';

const params = z.strictObject({
  window_size: wholeNumber(1, 4096, 64, 'W: how many of the last queries observe; these tokens are always kept'),
  kernel_size: oddNumber(1, 255, 5, 'width of the average pooling over neighbouring tokens'),
});

export const snapkv: Scorer<typeof params> = {
  name: 'snapkv',
  summary: 'keeps what the last queries attend to, smoothed over neighbours',
  paper: 'arXiv 2404.14469',
  formula: 's[h,j] = mean over the group of avgPool(mean over the last W queries i of attention(i, j))',
  needs: 'keys, the last window_size queries',
  cost: 'the last window_size queries meet every key once more',
  params,
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: 'window_size',
  queries: ({ window_size }) => window_size,
  protect: ({ window_size }) => ({ first: 0, last: window_size }),
  score(context, { window_size, kernel_size }) {
    const { backend, n, shape } = context;
    const { queryHeads: Hq, kvHeads: H } = shape;
    const W = Math.min(window_size, n - 1); // fewer only where on_tight "uniform" lets a short prompt pass
    const evictable = n - W;
    const mean = context.scratch(H * n * 4, 'snapkv means'); // [H, n]
    backend.groupMean(mean, windowAttention(context, W), H, Hq / H, n);
    const scores = context.scratch(H * n * 4, 'snapkv scores'); // [H, n]
    backend.avgPool(scores, mean, H, evictable, n, kernel_size);
    for (let h = 0; h < H; h++) {
      const window = (h * n + evictable) * 4; // never read by a press; defined, because inspect shows it
      backend.copy(at(scores, window), at(mean, window), W * 4);
    }
    return scores;
  },
};
