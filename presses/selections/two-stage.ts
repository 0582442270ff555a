/** Two stages: part of the budget goes to the best scores, the rest to scores times what the values weigh in the output (CriticalKV).          arXiv 2502.03805
 *      k1 = floor(first_stage_ratio n_avg);   T = the k1 best by s, protected tokens among them
 *      w[h,t] = mean over the group's query heads a of |V_t W_o,a|_1;   after T: the largest (s + second_stage_epsilon) w
 *  Every budget is a prefix of this order, so that it works under any layer budget; T is the same whatever the layer gets.
 *  With head_budget "critical_adakv" each head has its own k1, of its own count, and `scores` are s, which that counts by.
 *  compat: k1 = int((1 - r) N first_stage_ratio)
 *  A measured layer budget sees (s + epsilon) w, in this order: LMBA is what this order needs to hold the mass. */
import * as z from 'zod';
import { at, readFloats, readWords, type View } from '../../worker/backend/backend.ts';
import type { RankContext, Selection } from '../contract.ts';
import { groupOutputNorms, outputNormsBytes } from '../output-norm.ts';
import { fraction, realNumber } from '../params.ts';
import { protectedCount } from '../protected-count.ts';

const params = z.strictObject({
  first_stage_ratio: fraction(0.5, 'the fraction of the budget that the scores alone decide'),
  second_stage_epsilon: realNumber(0, 1, 1e-4, 'added to the scores before they are multiplied, so that a score of 0 still ranks by its value'),
});

export const twoStage: Selection<typeof params> = {
  name: 'two_stage',
  summary: 'the best scores, then the best products of score and what the value weighs in the output',
  paper: 'arXiv 2502.03805',
  formula: 'first_stage_ratio of the budget by s[h,t], then the largest (s[h,t] + epsilon) |V[t] W_o|_1',
  needs: 'scores of 0 or more, values, W_o',
  params,
  cost: "every value goes through W_o, head by head: as many products as the attention's output takes",
  scratchBytes: (size) => outputNormsBytes(size) + 4 * size.n * (3 * size.kvHeads + 2) + 5 * 64,
  refuses({ scorer: { part: scorer }, headBudget: { part: heads } }) {
    if (scorer.massMap !== 'identity' && scorer.massMap !== null) {
      return `selection "two_stage" multiplies scores, and those of scorer "${scorer.name}" may be negative, so that a larger value would make a token worse; use a scorer of attention, like "snapkv", or selection "top_k"`;
    }
    if (heads.name === 'adakv') {
      return 'selection "two_stage" with head_budget "adakv": its order is not that of the scores which heads would be compared by; use head_budget "critical_adakv"';
    }
    return null;
  },
  async rank(context, { first_stage_ratio, second_stage_epsilon }) {
    const { backend, scratch, n, count, keep, shape } = context;
    const H = shape.kvHeads;
    const scores = context.score(context);
    const weighed = scratch(H * n * 4, 'scores times output norms'); // [H, n]
    backend.weigh(weighed, scores, groupOutputNorms(context, 1), H, H, n, second_stage_epsilon);
    const byScore = scratch(H * n * 4, 'order of the first stage'); // [H, n]
    backend.topK(byScore, scores, H, n, n, keep);

    const P = protectedCount(keep, n);
    const firsts = await firstStage(context, scores, byScore, first_stage_ratio);
    const order = scratch(H * count * 4, 'rank order'); // [H, count]
    const [left, best] = [scratch(n * 4, 'what the first stage left'), scratch(n * 4, 'best of what it left')];
    for (let h = 0; h < H; h++) {
      const first = Math.min(count, Math.max(P, firsts[h]));
      const [rest, wanted] = [n - first, count - first];
      backend.copy(at(order, h * count * 4), at(byScore, h * n * 4), first * 4);
      if (wanted === 0) continue;
      // Row numbers and scores both move as bits: gather takes either.
      const restByScore = at(byScore, (h * n + first) * 4);
      backend.gather(left, at(weighed, h * n * 4), { rows: restByScore, stride: rest }, rest, 1, 1);
      backend.topK(best, left, 1, rest, wanted, { first: 0, last: 0 }); // ties to the better score
      backend.gather(at(order, (h * count + first) * 4), restByScore, { rows: best, stride: wanted }, wanted, 1, 1);
    }
    return { scores: context.headCounts ? scores : weighed, order };
  },
};

/** [H] how many of each head's best the first stage keeps. */
async function firstStage(context: RankContext, scores: View, byScore: View, ratio: number): Promise<readonly number[]> {
  const { backend, n, keep, shape, averageBudget, compat, compressionRatio, headCounts } = context;
  const H = shape.kvHeads;
  if (headCounts === null) return Array(H).fill(Math.floor(compat ? (1 - compressionRatio) * n * ratio : averageBudget * ratio));
  const s = await readFloats(backend, scores, H * n);
  const ranks = await readWords(backend, byScore, H * n);
  const P = protectedCount(keep, n);
  const sorted = Array.from({ length: H }, (_, h) => Float32Array.from(ranks.subarray(h * n + P, (h + 1) * n), (row) => s[h * n + row]));
  const { counts, sure } = headCounts(sorted);
  return counts.map((count) => Math.max(Math.min(sure, count), Math.floor(count * ratio)));
}
