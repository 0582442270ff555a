/** Threshold: what scores high enough stays, however much that is (DMS).          arXiv 2506.05345
 *      kept[h] = { t : s[h,t] >= threshold } and the last sliding_window_size tokens
 *  Heads keep as many as pass, each its own number, and what goes is freed; kvpress masks it.
 *  While decoding, under a schedule: tokens that have left the window are judged once every interval tokens; interval 1 is DMS to the letter, a larger one
 *  lets them be attended to so much longer. Scores of hidden states were kept for that since the tokens were read (token-scores.ts).
 *  needs     scores that mean the same in every prompt: of each token alone */
import * as z from 'zod';
import type { Selection } from '../contract.ts';
import { wholeNumber } from '../params.ts';
import { rankByScore } from './top-k.ts';

const error = 'must be a number between -1000000 and 1000000';
const params = z.strictObject({
  threshold: z
    .number({ error })
    .min(-1e6, { error })
    .max(1e6, { error })
    .describe('tokens that score lower go; what is a good one depends on the scorer'),
  sliding_window_size: wholeNumber(1, 65536, 128, 'how many of the last tokens stay whatever their score'),
});

export const threshold: Selection<typeof params> = {
  name: 'threshold',
  summary: 'every token that scores at least the threshold, and the most recent ones',
  paper: 'arXiv 2506.05345',
  formula: 'kept[h] = the t with s[h,t] >= threshold, and the last sliding_window_size tokens',
  needs: 'scores of each token alone, on the host',
  params,
  whileDecoding: true,
  decidesTotal: 'threshold and sliding_window_size',
  protect: ({ sliding_window_size }) => ({ first: 0, last: sliding_window_size }),
  refuses({ scorer: { part } }) {
    if (part.perToken) return null;
    return `selection "threshold" wants scores that depend on each token alone, so that one number fits every prompt; those of scorer "${part.name}" depend on the other tokens; use a scorer like "knorm", or selection "top_k"`;
  },
  rank: (context) => rankByScore(context, context.score(context)),
  counts({ sorted, protectedTokens: P }, _budget, _context, { threshold }) {
    const least = Math.fround(threshold); // as f32, like the scores
    return sorted.map((scores) => P + scores.filter((score) => score >= least).length);
  },
  bounds: ({ caps, protectedTokens }) => caps.map((n) => ({ min: Math.min(n, protectedTokens), max: n })),
};
