/** Compactor: keys that stand apart, and tokens that their neighbours attend to, stay, whatever will be asked.          arXiv 2507.08143
 *      s = blending * Leverage + NonCausal, both standardised, over the tokens between the first sink_size_start and the last sink_size_end, which are protected
 *  needs     all queries, keys, values
 *  blending null is compression_ratio: the more goes, the more leverage counts. Blocks of non-causal attention begin behind the first protected tokens.
 *  Non-causal attention is most of the work: a tenth of reading a prompt of 4,096 tokens on models/needle in WASM, leverage a fiftieth.
 *  In a prompt that is not longer than what is protected there is nothing to score. compat "kvpress" changes both parts, as each of them says. */
import * as z from 'zod';
import { at, type View } from '../../worker/backend/backend.ts';
import type { ScoreContext, Scorer } from '../contract.ts';
import { wholeNumber } from '../params.ts';
import { leverageBytes, leverageScores, sketchArtifact, sketchParams } from './leverage.ts';
import { nonCausal } from './non-causal.ts';

const F32 = 4;

const BLENDING = 'must be a number between 0 and 100, or null';
const params = z.strictObject({
  sink_size_start: wholeNumber(0, 4096, 8, 'how many of the first tokens are always kept'),
  sink_size_end: wholeNumber(0, 4096, 4, 'how many of the last tokens are always kept'),
  chunk_size: nonCausal.params.shape.chunk_size,
  ...sketchParams,
  blending: z
    .number({ error: BLENDING })
    .min(0, { error: BLENDING })
    .max(100, { error: BLENDING })
    .nullable()
    .default(null)
    .describe('how much leverage counts beside non-causal attention; null: as much as compression_ratio'),
});

export const compactor: Scorer<typeof params> = {
  name: 'compactor',
  summary: 'keeps keys that stand apart and tokens that their neighbours attend to',
  paper: 'arXiv 2507.08143',
  formula: 's = blending * leverage + non_causal, both standardised over the tokens that are not protected',
  needs: 'keys, values, all queries',
  cost: nonCausal.cost,
  params,
  artifact: sketchArtifact,
  comparable: true, // sums of standard deviations
  massMap: 'shift', // what is standardised is not negative
  protectedBy: null, // sink_size_start and sink_size_end together
  queries: () => Infinity,
  protect: ({ sink_size_start, sink_size_end }) => ({ first: sink_size_start, last: sink_size_end }),
  scratchBytes: (size, params) => leverageBytes(size, params) + nonCausal.scratchBytes!(size, params) + 7 * size.kvHeads * size.n * F32,
  score(context, { sink_size_start, sink_size_end, blending, chunk_size, ...sketch }) {
    const { backend, scratch, n, shape, note, compressionRatio } = context;
    const { kvHeads: H } = shape;
    const scores = scratch(H * n * F32, 'compactor scores'); // [H, n]; 0 where tokens are protected
    backend.write(scores, new Float32Array(H * n));
    const first = Math.min(sink_size_start, n);
    const count = n - first - Math.min(sink_size_end, n - first);
    if (count === 0) {
      note(`compactor: ${n} tokens are no more than the ${sink_size_start} first and ${sink_size_end} last that it keeps, so that none is scored`);
      return scores;
    }
    const part = between(context, first, count);
    const [leverage, attention] = [leverageScores(part, sketch, 'compactor'), nonCausal.score(part, { chunk_size })];
    const blended = scratch(H * count * F32, 'blended scores'); // [H, count]
    backend.blend(blended, leverage, attention, blending ?? compressionRatio, 1, H * count);
    for (let h = 0; h < H; h++) backend.copy(at(scores, (h * n + first) * F32), at(blended, h * count * F32), count * F32);
    return scores;
  },
};

/** Tokens first .. first + count - 1 of a layer, as if there were no others. */
function between(context: ScoreContext, first: number, count: number): ScoreContext {
  const { k, v, q, n, window, start, shape } = context;
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  const rows = (x: View): View => at(x, first * H * d * F32);
  const queries = at(q, (window - n + first) * Hq * d * F32); // the queries are those of all tokens
  return { ...context, n: count, window: count, k: rows(k), v: rows(v), q: queries, start: start + first };
}
