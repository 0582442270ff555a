/** Segments: every segment_length tokens are scored as if they were the whole prompt, and each such segment keeps about the same share.
 *      s'[h,t] = the share of its segment that t stands before, by the scores of the segment alone;   the largest s' stay
 *  So a budget of whatever layer or head takes the same share of every segment, to within a token, and the total is exact.
 *  What the scorer protects of a prompt stands first in every segment; the protected tokens of the prompt itself stay in any case. A last segment
 *  that would be protected whole belongs to the one before it.
 *  Queries and keys keep the positions that they have. kvpress rotates the queries of every segment as if it stood at the end of the prompt, and so
 *  scores all but the last one wrongly with scorers of a window; it keeps max(1, int(len(1 - r))) of each segment: both under compat. */
import * as z from 'zod';
import { at, type View } from '../../worker/backend/backend.ts';
import { ropeTable } from '../../worker/backend/rope-table.ts';
import type { RankContext, ScoreContext, Selection } from '../contract.ts';
import { wholeNumber } from '../params.ts';
import { partOf, ReusedScratch } from '../part-of-layer.ts';
import { rankByScore } from './top-k.ts';

const params = z.strictObject({
  segment_length: wholeNumber(2, 2 ** 20, 1024, 'how many tokens are scored by themselves; more than the scorer protects'),
});

export interface Segment {
  readonly first: number;
  readonly end: number;
}

export const segments: Selection<typeof params> = {
  name: 'segments',
  summary: 'the same share of every stretch of the prompt, each scored by itself',
  paper: null,
  formula: 'the largest s[h,t] = share of its segment that t stands before, by scores of the segment alone',
  needs: "the scorer's needs, in every segment",
  params,
  queries: (_, scorerQueries) => (scorerQueries > 0 ? Infinity : 0),
  scratchBytes: ({ n, window, queryHeads, kvHeads, headDim }) => 4 * (4 * kvHeads * n + n + window * (queryHeads + 1) * headDim) + 8 * 64,
  refuses({ scorer: { part, params } }, { segment_length }) {
    const { first, last } = part.protect(params, segment_length);
    const queries = part.queries(params);
    const needed = Math.max(first + last, queries === Infinity ? 0 : queries);
    if (needed < segment_length) return null;
    return `selection "segments" with segment_length ${segment_length}: scorer "${part.name}" protects or reads the last ${needed} of so many tokens, which leaves none to choose from; a segment_length above ${needed} would work`;
  },
  rank(context, { segment_length }) {
    const { backend, scratch, n, shape, compat } = context;
    const H = shape.kvHeads;
    const parts = segmentsOf(n, segment_length, context.protects);
    const reused = new ReusedScratch(context);
    const scores = scratch(H * n * 4, 'scores by segment'); // [H, n]
    for (const { first, end } of parts) {
      reused.again();
      const part = { ...partOf(context, first, end), scratch: reused.lend };
      const own = protectedBest(context, context.score(compat ? atTheEnd(part, context) : part), end - first); // [H, end - first]
      for (let h = 0; h < H; h++) backend.copy(at(scores, (h * n + first) * 4), at(own, h * (end - first) * 4), (end - first) * 4);
    }
    return rankByScore(context, compat ? byQuota(context, shares(context, scores, parts), parts) : shares(context, scores, parts));
  },
  ownScores: true,
  countsInCompat: true,
  counts: ({ sorted, protectedTokens: P }) => sorted.map((scores) => P + scores.filter((score) => score > 1).length), // byQuota
  bounds({ caps, compressionRatio, protectedTokens: P }, { segment_length }) {
    return caps.map((n) => {
      const kept = segmentsOf(n, segment_length).reduce((sum, segment) => sum + quota(segment, compressionRatio), 0);
      return { min: Math.max(1, kept - 1), max: Math.min(n, kept + 1 + P) }; // a last segment may belong to the one before it; protected tokens stay
    });
  },
};

function segmentsOf(n: number, length: number, protects?: RankContext['protects']): Segment[] {
  const starts = Array.from({ length: Math.ceil(n / length) }, (_, i) => i * length);
  const rest = n - starts[starts.length - 1];
  const { first, last } = protects?.(rest) ?? { first: 0, last: 0 };
  if (starts.length > 1 && rest <= first + last) starts.pop();
  return starts.map((first, i) => ({ first, end: starts[i + 1] ?? n }));
}

/** Scores [H, n] of one segment, what the scorer protects of so many tokens above all others. */
export function protectedBest({ backend, shape, protects }: Pick<RankContext, 'backend' | 'shape' | 'protects'>, scores: View, n: number): View {
  const { first, last } = protects(n);
  const [firsts, lasts] = [Math.min(first, n), Math.min(last, n - Math.min(first, n))];
  for (let h = 0; h < shape.kvHeads; h++) {
    if (firsts > 0) backend.write(at(scores, h * n * 4), new Float32Array(firsts).fill(Infinity));
    if (lasts > 0) backend.write(at(scores, ((h + 1) * n - lasts) * 4), new Float32Array(lasts).fill(Infinity));
  }
  return scores;
}

/** From scores to shares, in [0, 1): the last segment may have another length than the others. */
export function shares({ backend, scratch, n, shape }: RankContext, scores: View, parts: readonly Segment[]): View {
  const H = shape.kvHeads;
  const length = parts[0].end;
  const last = parts[parts.length - 1];
  const odd = last.end - last.first !== length;
  const equal = scratch(H * n * 4, 'shares of equal segments'); // [H, n]
  backend.segmentRank(equal, scores, H, n, 0, length, odd ? parts.length - 1 : parts.length);
  if (!odd) return equal;
  const all = scratch(H * n * 4, 'shares of all segments'); // [H, n]
  backend.segmentRank(all, equal, H, n, last.first, last.end - last.first, 1);
  return all;
}

/** kvpress's count of a segment. */
export function quota({ first, end }: Segment, ratio: number): number {
  return Math.max(1, Math.trunc((end - first) * (1 - ratio)));
}

/** (s' + 1) / (1 + the share halfway between the last that is kept and the first that goes): above 1 for as many of a segment as kvpress keeps. */
export function byQuota({ backend, scratch, n, shape, compressionRatio }: RankContext, scores: View, parts: readonly Segment[]): View {
  const weights = new Float32Array(n);
  for (const segment of parts) {
    const length = segment.end - segment.first;
    weights.fill(1 / (1 + (length - quota(segment, compressionRatio) - 0.5) / length), segment.first, segment.end);
  }
  const perToken = scratch(n * 4, 'quotas'); // [1, n]
  backend.write(perToken, weights);
  const ranked = scratch(shape.kvHeads * n * 4, 'shares by quota'); // [H, n]
  backend.weigh(ranked, scores, perToken, shape.kvHeads, 1, n, 1);
  return ranked;
}

/** A segment whose queries are rotated to the end of the prompt, its keys left where they are: kvpress does not slice its rotary tables. */
function atTheEnd(part: ScoreContext, whole: ScoreContext): ScoreContext {
  const { backend, scratch, q, window, shape, model } = part;
  const { queryHeads: Hq, headDim: d } = shape;
  const further = whole.start + whole.n - (part.start + part.n);
  if (window === 0 || further === 0) return part;
  const turned = scratch(window * Hq * d * 4, 'queries at the end'); // [window, Hq, d]
  backend.copy(turned, q, window * Hq * d * 4);
  const row = ropeTable(model.invFreq, further, 1);
  const table = scratch(window * d * 4, 'one rotation for all');
  backend.write(
    table,
    Float32Array.from({ length: window * d }, (_, i) => row[i % d]),
  );
  backend.rope([{ x: turned, heads: Hq }], table, window, d);
  return { ...part, q: turned };
}
