/** Sinks and recent tokens, as DuoAttention's streaming heads keep them.          arXiv 2410.10819
 *      s_t = n for the pattern's first `sink` tokens, else t
 *  needs     the artefact: the pattern that head_budget "duo" deals by. A head that keeps sink + recent tokens keeps the first and the last ones
 *  streaming_llm with a number of sinks that is the file's and not the request's. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import { artifactName } from '../artifacts.ts';
import type { Scorer } from '../contract.ts';
import { aboutPattern, duoPattern, patternOf } from '../duo-pattern.ts';

const params = z.strictObject({ artifact: artifactName(aboutPattern) });

export const sinkRecent: Scorer<typeof params> = {
  name: 'sink_recent',
  summary: "keeps the first tokens, as many as DuoAttention's pattern says, and the most recent ones",
  paper: 'arXiv 2410.10819',
  formula: 's[t] = n for t < sink, else t',
  needs: 'positions',
  params,
  artifact: duoPattern,
  comparable: true, // positions
  massMap: null, // the same scores in every layer
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  score({ backend, scratch, artifact, n, start, shape: { kvHeads: H } }, { artifact: name }) {
    const scores = scratch(H * n * 4, 'sink_recent scores'); // [H, n]
    const { sink } = patternOf(artifact(name));
    const row = Float32Array.from({ length: n }, (_, t) => (start + t < sink ? start + n : start + t)); // exact up to 2^24
    for (let h = 0; h < H; h++) backend.write(at(scores, h * n * 4), row);
    return scores;
  },
};
