/** DuoAttention: heads that retrieve keep everything, the others only the first and the most recent tokens.          arXiv 2410.10819
 *      the round(L H rho) heads of the smallest scores stream: they keep sink + recent tokens;   every other head keeps all n
 *  needs     the artefact: a pattern of scores of the model's heads, and the two sizes. The scorer decides which tokens; sink_recent ranks as the pattern says
 *  The total is what the pattern makes of it. Evicted entries are really freed.
 *  The window slides under schedule "prefill_and_decoding": every interval tokens streaming heads are brought back to sink + recent, so that they hold fewer than
 *  sink + recent + interval however long the answer is. Under "prefill" what is generated stays, as in kvpress, which acts on the prompt alone: compat knows no other.
 *  kvpress's default of rho is 0, which leaves every head whole. */
import * as z from 'zod';
import { artifactName } from '../artifacts.ts';
import type { HeadBudget } from '../contract.ts';
import { aboutPattern, duoPattern, patternOf, streamingHeads } from '../duo-pattern.ts';
import { fraction } from '../params.ts';
import { sum } from '../sum.ts';

const params = z.strictObject({
  artifact: artifactName(aboutPattern),
  head_compression_ratio: fraction(0.5, 'rho: the fraction of the heads that keep only the first and the most recent tokens'),
});

export const duo: HeadBudget<typeof params> = {
  name: 'duo',
  summary: 'heads that retrieve keep everything, the others the first and the most recent tokens',
  paper: 'arXiv 2410.10819',
  formula: 'the round(L H rho) heads of the smallest trained scores keep sink + recent tokens, the others all',
  needs: 'nothing of the prompt',
  params,
  artifact: duoPattern,
  decidesTotal: 'head_compression_ratio',
  whileDecoding: true,
  ragged: true,
  counts({ index, protectedTokens: P }, b, { kvHeads: H, artifact }, { artifact: name, head_compression_ratio: rho }) {
    const { sink, recent } = patternOf(artifact(name));
    const streaming = streamingHeads(artifact(name), rho);
    return Array.from({ length: H }, (_, h) => (streaming.has(index * H + h) ? Math.min(b, Math.max(P, sink + recent)) : b));
  },
  keepsAll({ tokens, artifact }, { artifact: name, head_compression_ratio: rho }) {
    const { sink, recent } = patternOf(artifact(name));
    if (streamingHeads(artifact(name), rho).size === 0) return `head_compression_ratio ${rho} makes no head keep less`;
    return tokens > sink + recent ? null : `${name} has heads keep the first ${sink} and the last ${recent} tokens, and there are ${tokens}`;
  },
  bounds(context, params) {
    return context.caps.map((n, index) => {
      const counts = duo.counts({ index, sorted: [], protectedTokens: context.protectedTokens }, n, context, params);
      const mean = sum(counts) / counts.length;
      return { min: mean, max: mean };
    });
  },
};
