/** Score segments: every segment_length tokens keep about the same share, by scores of the whole prompt. FINCH's chunks.          arXiv 2408.00167
 *      s'[h,t] = the share of its segment that t stands before, by s[h,.];   the largest s' stay
 *  Selection "segments" has each segment scored by itself; here one array of scores is cut. Protected tokens come first in their segments. So a budget of whatever layer or
 *  head takes the same share of every segment, to within a token, and the total is exact.
 *  compat: max(1, int(len(1 - r))) of each segment, as FINCH's chunk_length has it. Protected tokens stay in any case: where a segment's count is below them, kvpress
 *  lets go of some, whichever. */
import * as z from 'zod';
import type { Selection } from '../contract.ts';
import { wholeNumber } from '../params.ts';
import { byQuota, protectedBest, quota, type Segment, shares } from './segments.ts';
import { rankByScore } from './top-k.ts';

const params = z.strictObject({
  segment_length: wholeNumber(2, 2 ** 20, 1024, 'how many neighbouring tokens share a part of the budget; more than the scorer protects'),
});

export const scoreSegments: Selection<typeof params> = {
  name: 'score_segments',
  summary: 'the same share of every stretch of the prompt, by scores of the whole',
  paper: 'arXiv 2408.00167',
  formula: 'the largest s[h,t] = share of its segment that t stands before, by scores of the whole prompt',
  needs: 'scores',
  params,
  scratchBytes: ({ n, kvHeads }) => 4 * (3 * kvHeads * n + n) + 4 * 64,
  refuses({ scorer: { part, params } }, { segment_length }) {
    const { first, last } = part.protect(params, segment_length);
    if (first + last < segment_length) return null;
    return `selection "score_segments" with segment_length ${segment_length}: scorer "${part.name}" protects ${first + last} tokens, which leaves none of a segment to choose from; a segment_length above ${first + last} would work`;
  },
  rank(context, { segment_length }) {
    const { n, keep, compat } = context;
    const parts = segmentsOf(n, segment_length);
    const scores = protectedBest({ ...context, protects: () => keep }, context.score(context), n);
    const ranked = shares(context, scores, parts);
    return rankByScore(context, compat ? byQuota(context, ranked, parts) : ranked);
  },
  ownScores: true,
  countsInCompat: true,
  evenCounts: true,
  counts: ({ sorted, protectedTokens: P }) => sorted.map((scores) => P + scores.filter((score) => score > 1).length), // byQuota
  bounds({ caps, compressionRatio, protectedTokens: P }, { segment_length }) {
    return caps.map((n) => {
      const kept = segmentsOf(n, segment_length).reduce((sum, segment) => sum + quota(segment, compressionRatio), 0);
      return { min: kept, max: Math.min(n, kept + P) }; // protected tokens stay
    });
  },
};

function segmentsOf(n: number, length: number): Segment[] {
  return Array.from({ length: Math.ceil(n / length) }, (_, i) => ({ first: i * length, end: Math.min(n, (i + 1) * length) }));
}
