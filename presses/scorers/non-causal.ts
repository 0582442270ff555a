/** Non-causal attention: what tokens nearby attend to, the later ones to the earlier and the other way round, times the value's length.          arXiv 2507.08143
 *      blocks of chunk_size tokens;  alpha[a,j] = sum over the queries i of j's block of softmax over the block's keys of q_i.k_j / sqrt d
 *      s = zScore(avgPool3(groupMean_a(alpha) |V_j|)),   mean and std of each head
 *  needs     all queries; no attention is stored
 *  compat "kvpress": no 1 / sqrt d; the last block is padded with zero queries and keys to chunk_size, and they count; mean and std of all heads at once.
 *  Within Compactor these scores are one of two parts, and it hands over a part of the layer. */
import * as z from 'zod';
import { at, type View } from '../../worker/backend/backend.ts';
import type { ScoreContext, Scorer } from '../contract.ts';
import { wholeNumber } from '../params.ts';

const F32 = 4;

const params = z.strictObject({
  chunk_size: wholeNumber(1, 4096, 256, 'tokens of a block, which attend to each other'),
});

export const nonCausal: Scorer<typeof params> = {
  name: 'non_causal',
  summary: 'keeps what its neighbours on both sides attend to, by the length of its value',
  paper: 'arXiv 2507.08143',
  formula: 's = zScore(avgPool3(groupMean(sum over i of softmax_j(q[i].k[j]/sqrt(d)) in blocks of chunk_size) norm2(V[j])))',
  needs: 'keys, values, all queries',
  cost: 'every query meets the chunk_size keys of its block',
  params,
  comparable: true, // standard deviations
  massMap: 'shift', // what is standardised is not negative
  protectedBy: null,
  queries: () => Infinity,
  protect: () => ({ first: 0, last: 0 }),
  scratchBytes: ({ n, kvHeads, queryHeads, headDim }, { chunk_size }) => F32 * (kvHeads * n + chunk_size * (queryHeads + kvHeads) * headDim),
  score(context, { chunk_size }) {
    const { backend, scratch, v, n, shape, compat } = context;
    const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
    const means = scratch(H * n * F32, 'means of non-causal attention'); // [H, n]
    backend.groupMean(means, blockColumns(context, chunk_size), H, Hq / H, n);
    const lengths = scratch(H * n * F32, 'lengths of values'); // [H, n]
    backend.keyNorm(lengths, v, n, H, d, 1);
    const scores = scratch(H * n * F32, 'non-causal scores'); // [H, n]
    backend.weigh(scores, means, lengths, H, H, n, 0);
    backend.avgPool(means, scores, H, n, n, 3);
    backend.zScore(means, H, n, 0, n, compat);
    return means;
  },
};

/** alpha [Hq, n]. */
function blockColumns({ backend, scratch, q, k, n, window, shape, compat }: ScoreContext, chunkSize: number): View {
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  const columns = scratch(Hq * n * F32, 'non-causal attention'); // [Hq, n]
  const scaled = compat ? { ...shape, scale: 1 } : shape;
  for (let first = 0; first < n; first += chunkSize) {
    const count = Math.min(chunkSize, n - first);
    let queries = at(q, (window - n + first) * Hq * d * F32);
    let keys = at(k, first * H * d * F32);
    const size = compat ? chunkSize : count;
    if (size > count) {
      queries = padded(queries, count, size, Hq * d);
      keys = padded(keys, count, size, H * d);
    }
    const block = { queries: size, n: size, start: null, reduce: 'sum', columns: count, stride: n, rowScale: null, accumulate: false } as const;
    backend.scoreColumns(at(columns, first * F32), queries, keys, block, scaled);
  }
  return columns;

  /** `count` rows, then zeros. */
  function padded(x: View, count: number, size: number, width: number): View {
    const rows = scratch(size * width * F32, 'a padded block');
    backend.write(rows, new Float32Array(size * width));
    backend.copy(rows, x, count * width * F32);
    return rows;
  }
}
