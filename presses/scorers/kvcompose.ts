/** KVCompose: what a second reading of the prompt looks at in the first one stays.          arXiv 2509.05165
 *      A = softmax(q.k / sqrt d) of the task's tokens, read over the prompt, over all that they see; the task is the prompt itself unless task_prompt says else
 *      t[a,j] = agg_task over the task's tokens i of A[a,i,j], j < n;   s[h,j] = agg_group over the group of t[a,j]
 *      add_v_norm: s[h,j] *= |V[j,h]|_2;   add_mean_across_heads: s[h,j] += mean over all heads of s[h',j]
 *  costs     two to four more prefills: as many tokens, over up to twice as many keys. Nothing of the second reading is kept: kvpress's unstructured variant leaves its tokens in the
 *            cache, where the answer attends to them
 *  layer_budget "composite" makes it the structured variant, "global" with head_budget "adakv" (alpha_safeguard 0) the unstructured one. The lower bound of
 *  tokens, keep_token_lower_bound, belongs to "composite" alone: the unstructured variant's is left out, and refused as unknown. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer, ScratchSize } from '../contract.ts';
import { oneOf, textOrTokens, trueOrFalse } from '../params.ts';
import { wholeLayersOnly } from './kvzip.ts';

const F32 = 4;

const params = z.strictObject({
  agg_task: oneOf(['max', 'mean'], 'max', "over the task's tokens"),
  agg_group: oneOf(['max', 'mean'], 'mean', 'over the query heads of a group'),
  add_v_norm: trueOrFalse(false, 'scores are multiplied by the norm of the value'),
  add_mean_across_heads: trueOrFalse(true, 'the mean over all heads is added to every score'),
  task_prompt: textOrTokens('what is read over the prompt; default: the prompt again').optional(),
});

export const kvcompose: Scorer<typeof params> = {
  name: 'kvcompose',
  summary: 'keeps what a second reading of the prompt looks at in the first',
  paper: 'arXiv 2509.05165',
  formula: 's[h,j] = mean over the group of the max over the second reading i of attention(i, j), + its mean over all heads',
  needs: 'a second reading of the prompt',
  cost: 'reads the prompt again, over all of itself, and scores what is looked at: two to four more prefills, the more the longer the prompt',
  params,
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  refuses: (press) => wholeLayersOnly('kvcompose', press),
  passes: {
    tokens: ({ tokens, encode }, { task_prompt = tokens }) => [typeof task_prompt === 'string' ? encode(task_prompt) : task_prompt],
    observe({ backend, scratch, sums, n, length, start, rows, q, k, shape }, { agg_task }) {
      const mean = agg_task === 'mean';
      const rowScale = mean ? scratch(rows * F32, 'shares of the mean') : null;
      if (rowScale) backend.write(rowScale, new Float32Array(rows).fill(1 / length));
      const reduce = mean ? 'sum' : 'max';
      const columns = {
        queries: rows,
        n: n + start + rows,
        start: n + start,
        reduce,
        columns: n,
        stride: n,
        rowScale,
        accumulate: start > 0,
      } as const;
      backend.scoreColumns(sums, q, k, columns, shape);
    },
    scratchBytes: ({ rows }) => rows * F32 + 64,
  },
  score({ backend, scratch, n, v, shape, sums }, { agg_group, add_v_norm, add_mean_across_heads }) {
    const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
    if (sums === null) throw new Error('kvcompose scores what its pass saw');
    let scores = scratch(H * n * F32, 'kvcompose scores'); // [H, n]
    if (agg_group === 'max') backend.groupMax(scores, sums, H, Hq / H, n);
    else backend.groupMean(scores, sums, H, Hq / H, n);
    if (add_v_norm) {
      const [norms, weighed] = [scratch(H * n * F32, 'norms of values'), scratch(H * n * F32, 'kvcompose scores by values')];
      backend.keyNorm(norms, v, n, H, d, 1);
      backend.weigh(weighed, scores, norms, H, H, n, 0);
      scores = weighed;
    }
    if (!add_mean_across_heads) return scores;
    const [mean, raised] = [scratch(n * F32, 'mean over heads'), scratch(H * n * F32, 'kvcompose scores above the mean')];
    backend.groupMean(mean, scores, 1, H, n);
    for (let h = 0; h < H; h++) backend.blend(at(raised, h * n * F32), at(scores, h * n * F32), mean, 1, 1, n);
    return raised;
  },
  scratchBytes: ({ n, kvHeads: H }: ScratchSize) => F32 * n * (4 * H + 1) + 5 * 64,
};
