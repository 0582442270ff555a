/** Knorm: keys of small norm draw the most attention, so they stay.          arXiv 2406.11430
 *      s_t = -|K_t|₂ */
import type { Scorer } from '../contract.ts';
import { noParams } from '../params.ts';

export const knorm: Scorer<typeof noParams> = {
  name: 'knorm',
  summary: 'keeps the keys with the smallest norm',
  paper: 'arXiv 2406.11430',
  formula: 's[t] = -norm2(K[t])',
  needs: 'keys',
  params: noParams,
  comparable: false, // each head has its own scale of keys
  massMap: 'softmax', // no probabilistic meaning: exp((s - max s) / std s)
  perToken: true,
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  score({ backend, scratch, k, n, shape: { kvHeads, headDim } }) {
    const scores = scratch(kvHeads * n * 4, 'knorm scores'); // [H, n]
    backend.keyNorm(scores, k, n, kvHeads, headDim, -1);
    return scores;
  },
};
