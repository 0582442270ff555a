/** StreamingLLM: the first tokens (attention sinks) and the most recent ones stay.          arXiv 2309.17453
 *      s_t = t;   the first n_sink tokens are protected
 *  Keys keep their rotation: kept tokens stay where they were. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { wholeNumber } from '../params.ts';

const params = z.strictObject({
  n_sink: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept'),
});

export const streamingLlm: Scorer<typeof params> = {
  name: 'streaming_llm',
  summary: 'keeps the first tokens and the most recent ones',
  paper: 'arXiv 2309.17453',
  formula: 's[t] = t; the first n_sink tokens are protected',
  needs: 'positions',
  params,
  comparable: true, // positions
  massMap: null, // the same scores in every layer
  protectedBy: 'n_sink',
  queries: () => 0,
  protect: ({ n_sink }) => ({ first: n_sink, last: 0 }),
  score({ backend, scratch, n, shape: { kvHeads } }) {
    const scores = scratch(kvHeads * n * 4, 'streaming_llm scores'); // [H, n]
    const positions = Float32Array.from({ length: n }, (_, t) => t); // exact up to 2^24
    for (let h = 0; h < kvHeads; h++) backend.write(at(scores, h * n * 4), positions);
    return scores;
  },
};
