/** Chunks: neighbours stay or go together.          arXiv 2502.00299
 *      u_t = mean over the heads of s[h,t];   U_c = mean of u over the evictable tokens of chunk c;   the best chunks stay, the same ones in every head
 *  Chunks of chunk_length tokens begin at token 0. Budgets are exact: the last chunk that no longer fits is cut, its first tokens stay.
 *  compat: kvpress keeps max(1, int(C(1 - r))) of the C chunks, whole, so that the total is not int(N(1 - r)); protected tokens count in their chunks with
 *  the scores that kvpress pads them with, the largest + 1, and stay only with these; a prompt shorter than a chunk is pressed token by token */
import * as z from 'zod';
import { at, readFloats, type View } from '../../worker/backend/backend.ts';
import type { BudgetContext, RankContext, Ranked, Selection } from '../contract.ts';
import { wholeNumber } from '../params.ts';
import { rankByScore } from './top-k.ts';

const params = z.strictObject({
  chunk_length: wholeNumber(1, 65536, 20, 'how many neighbouring tokens stay or go together'),
});

export const chunks: Selection<typeof params> = {
  name: 'chunks',
  summary: 'whole chunks of neighbouring tokens, by their mean score over all heads',
  paper: 'arXiv 2502.00299',
  formula: 'U[c] = mean over chunk c and all heads of s[h,t]; the chunks with the largest U stay',
  needs: 'scores',
  params,
  scratchBytes: ({ n, kvHeads }) => 4 * (2 * n + kvHeads * n) + 3 * 64,
  async rank(context, { chunk_length }) {
    const { backend, scratch, n, shape, keep, compat } = context;
    const H = shape.kvHeads;
    const scores = context.score(context);
    if (compat) return n < chunk_length ? rankByScore(context, scores) : rankAsKvpress(context, scores, chunk_length);
    const mean = scratch(n * 4, 'mean over the heads');
    backend.groupMean(mean, scores, 1, H, n);
    const chunked = scratch(n * 4, 'mean over the chunk');
    const first = Math.min(keep.first, n);
    backend.segmentMean(chunked, mean, 1, n, first, Math.max(first, n - keep.last), chunk_length);
    const shared = scratch(H * n * 4, 'chunk scores'); // [H, n]
    for (let h = 0; h < H; h++) backend.copy(at(shared, h * n * 4), chunked, n * 4);
    return rankByScore(context, shared);
  },
  ownScores: true,
  countsInCompat: true,
  counts({ index, sorted, protectedTokens: P }, budget, context, { chunk_length }) {
    const n = context.caps[index];
    if (n < chunk_length) return sorted.map(() => budget);
    const kept = keptChunks(n, context, chunk_length);
    // Scores are minus the rank of the chunk; the first P of the order are not among them.
    const seen = sorted[0].filter((score) => score > -kept).length;
    return sorted.map(() => (seen > 0 ? P + seen : Math.min(P, kept * chunk_length)));
  },
  bounds(context, { chunk_length }) {
    return context.caps.map((n, index) => {
      const budget = context.even[index];
      if (n < chunk_length) return { min: budget, max: budget };
      const most = keptChunks(n, context, chunk_length) * chunk_length;
      return { min: Math.max(1, most - (chunk_length - 1)), max: Math.min(n, most) };
    });
  },
};

function keptChunks(n: number, { compressionRatio, math }: BudgetContext, chunkLength: number): number {
  return Math.max(1, math.keptCount(Math.ceil(n / chunkLength), compressionRatio, true));
}

/** Every token's score becomes minus the rank of its chunk. On the host, which must see the scores for `counts` anyway. */
async function rankAsKvpress(context: RankContext, scores: View, chunkLength: number): Promise<Ranked> {
  const { backend, scratch, n, keep, shape } = context;
  const H = shape.kvHeads;
  const s = await readFloats(backend, scores, H * n);
  const evictable = (t: number): boolean => t >= keep.first && t < n - keep.last;
  const most = s.reduce((best, score, i) => (evictable(i % n) ? Math.max(best, score) : best), -Infinity);
  const means = Array.from({ length: Math.ceil(n / chunkLength) }, (_, c) => {
    const end = Math.min(n, (c + 1) * chunkLength);
    let total = 0;
    for (let t = c * chunkLength; t < end; t++) for (let h = 0; h < H; h++) total += evictable(t) ? s[h * n + t] : most + 1;
    return total / (end - c * chunkLength);
  });
  const best = [...means.keys()].sort((a, b) => means[b] - means[a] || a - b);
  const ranks = new Float32Array(n);
  for (const [rank, c] of best.entries()) ranks.fill(-rank, c * chunkLength, (c + 1) * chunkLength);
  const shared = scratch(H * n * 4, 'chunk ranks');
  for (let h = 0; h < H; h++) backend.write(at(shared, h * n * 4), ranks);
  return rankByScore({ ...context, keep: { first: 0, last: 0 } }, shared);
}
