/** Observed attention: what all queries of the prompt attended to stays; in the manner of H2O.          arXiv 2306.14048
 *      s[h,j] = groupMean_a ( sum over queries i of A[a,i,j] / how many queries see key j ),   N - j of them, slidingWindow at most
 *  needs     all queries; A is never stored: its columns are summed in a second pass over the logits
 *  Only a sliding window makes a difference from kvpress, which divides by N - j there too: compat does. */
import * as z from 'zod';
import type { Scorer } from '../contract.ts';

const params = z.strictObject({});

export const observedAttention: Scorer<typeof params> = {
  name: 'observed_attention',
  summary: 'keeps what all queries of the prompt attended to',
  paper: 'arXiv 2306.14048',
  formula: 's[h,j] = mean over the group of sum over i of attention(i, j) / (N - j)',
  needs: 'keys, all queries',
  cost: 'every query meets every key before it a second time: weights are known when their row was summed, and none is stored',
  params,
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: null,
  queries: () => Infinity,
  protect: () => ({ first: 0, last: 0 }),
  scratchBytes: ({ n }) => n * 4,
  score({ backend, scratch, q, k, n, shape, compat }) {
    const { queryHeads: Hq, kvHeads: H, slidingWindow } = shape;
    const columns = scratch(Hq * n * 4, 'attention of all queries'); // [Hq, n]
    const all = { queries: n, n, start: 0, reduce: 'sum', columns: n, stride: n, rowScale: null, accumulate: false } as const;
    backend.scoreColumns(columns, q, k, all, shape);
    const means = scratch(H * n * 4, 'its group means'); // [H, n]
    backend.groupMean(means, columns, H, Hq / H, n);
    const seen = (j: number): number => (slidingWindow > 0 && !compat ? Math.min(n - j, slidingWindow) : n - j);
    const shares = scratch(n * 4, 'queries that see a key'); // [n], as factors
    backend.write(
      shares,
      Float32Array.from({ length: n }, (_, j) => 1 / seen(j)),
    );
    const scores = scratch(H * n * 4, 'observed attention scores'); // [H, n]
    backend.weigh(scores, means, shares, H, 1, n, 0);
    return scores;
  },
};
