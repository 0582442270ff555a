/** FINCH: what the question attends to stays. The question is the last window_size tokens of what is pressed, and is kept.          arXiv 2408.00167
 *      s[h,j] = groupMean_a mean over the window's queries i of P[a,i,j] c_i,   c_i = N - W + i + 1, the keys that query i sees (1 without normalize_scores)
 *  SnapKV without pooling, each query's attention in units of an even share. With transform "rerotate" this is the whole method; selection "score_segments" is its
 *  chunk_length. compat "kvpress": c_i is one less. kvpress finds the window by a delimiter token, which it takes out of the prompt; here it has a size. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { trueOrFalse, wholeNumber } from '../params.ts';

const params = z.strictObject({
  window_size: wholeNumber(1, 4096, 64, 'W: how many of the last tokens are the question; they are always kept'),
  normalize_scores: trueOrFalse(true, "whether each query's attention is multiplied by the number of keys that it sees"),
});

const F32 = 4;

export const finch: Scorer<typeof params> = {
  name: 'finch',
  summary: 'keeps what the question, the last window_size tokens, attends to',
  paper: 'arXiv 2408.00167',
  formula: 's[h,j] = mean over the group and the last W queries i of attention(i, j) (N - W + i + 1)',
  needs: 'keys, the last window_size queries',
  cost: 'the last window_size queries meet every key once more',
  params,
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: 'window_size',
  question: true,
  scratchBytes: ({ window }) => window * F32, // scales of queries
  queries: ({ window_size }) => window_size,
  protect: ({ window_size }) => ({ first: 0, last: window_size }),
  score(context, { window_size, normalize_scores }) {
    const { backend, scratch, n, k, q, window, shape, compat } = context;
    const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
    const W = Math.min(window_size, n - 1); // fewer only where on_tight "uniform" lets a short prompt pass
    const visible = (i: number): number => (normalize_scores ? n - W + i + (compat ? 0 : 1) : 1);
    const rowScale = scratch(W * F32, 'keys that queries see'); // [W]
    backend.write(
      rowScale,
      Float32Array.from({ length: W }, (_, i) => visible(i) / W),
    );
    const attention = scratch(Hq * n * F32, 'finch attention'); // [Hq, n]
    const columns = { queries: W, n, start: n - W, reduce: 'sum', columns: n, stride: n, rowScale, accumulate: false } as const;
    backend.scoreColumns(attention, at(q, (window - W) * Hq * d * F32), k, columns, shape);
    const scores = scratch(H * n * F32, 'finch scores'); // [H, n]
    backend.groupMean(scores, attention, H, Hq / H, n);
    return scores;
  },
};
