/** KeyDiff: keys that differ from the mean key stay.          arXiv 2504.15364
 *      u_t = K_t / |K_t|,  ā = mean_t u_t,  s_t = -cos(K_t, ā) */
import type { Scorer } from '../contract.ts';
import { noParams } from '../params.ts';

export const keydiff: Scorer<typeof noParams> = {
  name: 'keydiff',
  summary: 'keeps the keys that differ most from the mean key',
  paper: 'arXiv 2504.15364',
  formula: 's[t] = -cosine(K[t], mean over t of K[t]/norm2(K[t]))',
  needs: 'keys',
  params: noParams,
  comparable: true, // cosines
  massMap: 'affine', // a cosine: (s + 1) / 2
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  score({ backend, scratch, k, n, shape: { kvHeads, headDim } }) {
    const scores = scratch(kvHeads * n * 4, 'keydiff scores'); // [H, n]
    backend.cosineToMean(scores, k, n, kvHeads, headDim, -1);
    return scores;
  },
};
