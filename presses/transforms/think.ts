/** ThinK: the key channels that the last queries make least of are set to zero.          arXiv 2407.21018
 *      energy[h,c] = mean over the group and the last W queries i of Q[a,i,c]^2  *  mean over the kept tokens t of K[t,h,c]^2
 *      K[t,h,c] = 0 for the floor(d key_channel_compression_ratio) channels of least energy, of every kept token t
 *  It frees no memory: pages hold rows of head_dim numbers, zeros among them, and the report says so. Keys that come later are not pruned. Nor in kvpress, whose reported
 *  ratio counts half of the channels as removed. Its default there is to do nothing, 0. In one press, or after another one, only the tokens that stay count. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Transform } from '../contract.ts';
import { fraction, wholeNumber } from '../params.ts';

const params = z.strictObject({
  key_channel_compression_ratio: fraction(0.5, 'share of key channels that are set to zero in every head; no memory is freed by it'),
  think_window_size: wholeNumber(1, 4096, 32, 'how many of the last queries say which channels matter'),
});

export const think: Transform<typeof params> = {
  name: 'think',
  summary: 'sets the key channels that the last queries make least of to zero; frees no memory',
  paper: 'arXiv 2407.21018',
  formula: 'K[h,t,c] = 0 for the key_channel_compression_ratio d channels c with the least mean(Q[c]²) mean(K[c]²)',
  needs: 'keys, the last think_window_size queries',
  params,
  scratchBytes: ({ kvHeads: H, headDim: d }) => 17 * d + 10 * H * d + 256, // prune-channels, on either backend
  actsAlone: true,
  queries: ({ think_window_size }) => think_window_size,
  apply({ backend, k, q, window, shape, order, counts, note }, { key_channel_compression_ratio, think_window_size }) {
    const { queryHeads: Hq, headDim: d } = shape;
    const W = Math.min(think_window_size, window);
    const zeroed = Math.trunc(d * key_channel_compression_ratio);
    if (zeroed === 0) return;
    backend.pruneChannels(k, at(q, (window - W) * Hq * d * 4), W, { order, counts }, zeroed, shape);
    note(`${zeroed} of ${d} key channels of every head were set to zero: that changes what is attended to, and frees no memory`);
  },
};
